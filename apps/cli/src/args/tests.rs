//! What is written and what is meant by it.

use clap::{CommandFactory, Parser};
use types::{
    Address, ChannelId, Hash32, Height, Nusd, Ppm, Watt,
    stake::{CommissionTerms, OperatorId},
};

use super::*;

const ACCOUNT: Address = Address([1; 20]);
const CHANNEL: ChannelId = ChannelId([2; 32]);

/// `ADDRESS` and `CHANNEL` stand for the ids above.
fn parse(line: &str) -> Result<Command, clap::Error> {
    let line = line
        .replace("ADDRESS", &ACCOUNT.to_string())
        .replace("CHANNEL", &CHANNEL.to_string())
        .replace("ROOT", &Hash32([3; 32]).to_string());
    let words = std::iter::once("peerwatt").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.command)
}

fn read(line: &str) -> Command {
    parse(line).unwrap_or_else(|error| panic!("`{line}`: {error}"))
}

/// A command line, a pattern for what it means, and what must hold of it.
macro_rules! check {
    ($line:literal => $pattern:pat if $holds:expr) => {
        let ok = match read($line) {
            $pattern => $holds,
            _ => false,
        };
        assert!(ok, "`{}` means something else", $line);
    };
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn stake() {
    let validator = OperatorId::validator(ACCOUNT);
    check!("stake delegate validator/ADDRESS 12.5 --dry-run" =>
        Command::Stake(StakeArgs { command: StakeCommand::Delegate { operator, amount, tx } })
        if operator == validator && amount == Watt(12_500_000_000) && tx.dry_run);
    check!("stake redelegate provider/ADDRESS validator/ADDRESS 1 --key other" =>
        Command::Stake(StakeArgs { command: StakeCommand::Redelegate { from, to, tx, .. } })
        if from == OperatorId::provider(ACCOUNT) && to == validator && tx.key.is_some());
    check!("stake rewards" =>
        Command::Stake(StakeArgs { command: StakeCommand::Rewards { withdraw: None, .. } })
        if true);
    check!("stake rewards --withdraw" =>
        Command::Stake(StakeArgs { command: StakeCommand::Rewards { withdraw: Some(None), .. } })
        if true);
    check!("stake rewards --withdraw validator/ADDRESS" =>
        Command::Stake(StakeArgs { command: StakeCommand::Rewards { withdraw: Some(Some(id)), .. } })
        if id == validator);
    check!("stake show ADDRESS" =>
        Command::Stake(StakeArgs { command: StakeCommand::Show(whose) })
        if whose.address == Some(ACCOUNT));
}

#[test]
fn providers_and_validators() {
    check!("provider register --moniker attic --region eu-west --class rtx-4090 --bond 50" =>
        Command::Provider(ProviderArgs {
            command: ProviderCommand::Register { moniker, region, class, bond, .. }
        })
        if (&*moniker, &*region, &*class) == ("attic", "eu-west", "rtx-4090")
            && bond == Watt::whole(50));
    check!("provider register --commission 90 --commission-change-max 5" =>
    Command::Provider(ProviderArgs {
        command: ProviderCommand::Register { commission, .. }
    })
    if commission.terms() == Some(CommissionTerms {
        rate: Ppm::new(900_000).unwrap(),
        rate_max: Ppm::ONE,
        change_max: Ppm::new(50_000).unwrap(),
    }));
    check!("provider register" =>
        Command::Provider(ProviderArgs {
            command: ProviderCommand::Register { commission, .. }
        })
        if commission.terms().is_none());
    check!("provider bond 5" =>
        Command::Provider(ProviderArgs { command: ProviderCommand::Bond { amount, .. } })
        if amount == Watt::whole(5));
    check!("provider commission 12.5" =>
        Command::Provider(ProviderArgs { command: ProviderCommand::Commission { rate, .. } })
        if rate.get() == 125_000);
    check!("validator --vote-price 0.25" =>
        Command::Validator(ValidatorArgs { command: None, vote_price, .. })
        if vote_price == Some(Nusd(250_000_000)));
    check!("validator register --stake 10000 --commission 5" =>
        Command::Validator(ValidatorArgs {
            command: Some(ValidatorCommand::Register { stake, commission, .. }), ..
        })
        if stake == Watt::whole(10_000) && Ppm::new(50_000) == Some(commission));
    check!("validator commission --withdraw" =>
        Command::Validator(ValidatorArgs {
            command: Some(ValidatorCommand::Commission { rate: None, withdraw, .. }), ..
        })
        if withdraw);
}

#[test]
fn channels_prices_events_and_proofs() {
    check!("channel list --party ADDRESS" =>
        Command::Channel(ChannelArgs { command: ChannelCommand::List { party, .. } })
        if party == Some(ACCOUNT));
    check!("channel return CHANNEL 0.5" =>
        Command::Channel(ChannelArgs { command: ChannelCommand::Return { id, amount, .. } })
        if id == CHANNEL && amount == Nusd(500_000_000));
    check!("oracle vote 0.11" =>
        Command::Oracle(OracleArgs { command: OracleCommand::Vote { price, .. } })
        if price == Nusd(110_000_000));
    check!("events --from 7 --follow --kind channel." =>
        Command::Events(EventsArgs { from, follow, kind, .. })
        if from == Some(Height(7)) && follow && kind == "channel.");
    check!("proof get operator validator/ADDRESS" =>
        Command::Proof(ProofArgs {
            command: ProofCommand::Get { entry: ProofEntry::Operator { operator }, .. }
        })
        if operator == OperatorId::validator(ACCOUNT));
    check!("proof verify - --root ROOT" =>
        Command::Proof(ProofArgs { command: ProofCommand::Verify { root, trust: None, .. } })
        if root == Some(Hash32([3; 32])));
    check!("proof verify file --trust 12:ROOT" =>
        Command::Proof(ProofArgs { command: ProofCommand::Verify { trust, root: None, .. } })
        if trust == Some(TrustPoint { height: Height(12), hash: Hash32([3; 32]) }));
    check!("proof verify file --validators ROOT" =>
        Command::Proof(ProofArgs { command: ProofCommand::Verify { validators: Some(_), .. } })
        if true);
    check!("light sync --at http://a,http://b --trust 7:ROOT" =>
        Command::Light(LightArgs { command: LightCommand::Sync(LightSyncArgs { at, trust, .. }) })
        if at == ["http://a", "http://b"] && trust.is_some_and(|it| it.height == Height(7)));
    check!("light status" => Command::Light(LightArgs { command: LightCommand::Status }) if true);
    check!("ledger import state.bin --genesis genesis.json" =>
        Command::Ledger(LedgerArgs { command: LedgerCommand::Import { genesis, root: None, .. } })
        if genesis.is_some());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for line in [
        "stake delegate ADDRESS 1",
        "stake delegate validator/ADDRESS 1e3",
        "stake delegate validator/ADDRESS -1",
        "provider register --region EU",
        "provider commission 101",
        "provider register --commission-max 50",
        "validator commission",
        "validator commission 5 --withdraw",
        "validator --listen 127.0.0.1:0 list",
        "channel close 0b",
        "events --from minus",
        "proof get lane ADDRESS",
        "proof verify file --root ROOT --validators ROOT",
        "proof verify file --trust ROOT",
        "light sync --trust 7:",
        "light sync --trust seven:ROOT",
    ] {
        assert!(parse(line).is_err(), "`{line}` is taken");
    }
}
