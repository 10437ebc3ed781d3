//! What a transaction does, for people.

use maud::{Markup, html};
use types::{
    stake::{Evidence, OperatorId},
    tx::{Action, CreditPurchase},
};

use crate::show;

pub(crate) fn title(action: &Action) -> &'static str {
    match action {
        Action::Transfer { .. } => "Transfer",
        Action::BuyCredits(_) => "Buy credits",
        Action::RefundCredits { .. } => "Give credits back",
        Action::RegisterProvider { .. } => "Register provider",
        Action::UnbondProvider => "Leave as provider",
        Action::Heartbeat => "Heartbeat",
        Action::RegisterGateway { .. } => "Register gateway",
        Action::OpenChannel { .. } => "Open channel",
        Action::TopUpChannel { .. } => "Top up channel",
        Action::RedeemVouchers { .. } => "Redeem vouchers",
        Action::ReturnDeposit { .. } => "Give a deposit back",
        Action::RequestWithdraw { .. } => "Ask for a channel's rest",
        Action::FinalizeWithdraw { .. } => "Take a channel's rest",
        Action::CloseChannel { .. } => "Close channel",
        Action::RegisterValidator { .. } => "Register validator",
        Action::SetCommission { .. } => "Set commission",
        Action::Delegate { .. } => "Stake",
        Action::Undelegate { .. } => "Take stake back",
        Action::Redelegate { .. } => "Move stake",
        Action::WithdrawRewards { .. } => "Withdraw rewards",
        Action::WithdrawCommission { .. } => "Withdraw commission",
        Action::Unjail { .. } => "Come back from jail",
        Action::SubmitEvidence { .. } => "Report a fault",
        Action::CommitPrice { .. } => "Commit to a price",
        Action::RevealPrice { .. } => "Vote on the price",
        Action::ClaimVested { .. } => "Claim what vested",
        Action::CommitReceipts { .. } => "Commit to receipts",
        Action::CommitVerdict { .. } => "Commit to a verdict",
        Action::RevealVerdict { .. } => "Give a verdict",
        Action::PublishCalibration { .. } => "Publish a calibration",
        Action::RegisterAuditor { .. } => "Register auditor",
        Action::RevealPlanted { .. } => "Reveal planted faults",
        Action::Appeal { .. } => "Appeal",
        Action::ReportCanary { .. } => "Report a canary",
        Action::DemandAudit { .. } => "Demand an audit",
    }
}

/// Of what and how much, in a few words.
pub(crate) fn detail(action: &Action) -> Option<Markup> {
    Some(match action {
        Action::Transfer { to, amount } => {
            html! { (show::watt_unit(*amount)) " to " (show::address(*to)) }
        }
        Action::BuyCredits(CreditPurchase::Pay { watt }) => {
            html! { "for " (show::watt_unit(*watt)) }
        }
        Action::BuyCredits(CreditPurchase::Receive { credits, .. })
        | Action::RefundCredits { credits } => show::usd(*credits),
        Action::RegisterProvider { profile, bond, .. } => {
            html! { (show::foreign(&profile.moniker)) ", bond " (show::watt_unit(*bond)) }
        }
        Action::RegisterGateway { moniker, .. } => show::foreign(moniker),
        Action::RegisterValidator { moniker, stake, .. } => {
            html! { (show::foreign(moniker)) ", stake " (show::watt_unit(*stake)) }
        }
        Action::OpenChannel { terms, deposit } => {
            html! { (show::usd(*deposit)) " to " (show::address(terms.receiver)) }
        }
        Action::TopUpChannel { channel, amount } => {
            html! { (show::usd(*amount)) " into " (show::id(&channel.to_string())) }
        }
        Action::ReturnDeposit { channel, amount } => {
            html! { (show::usd(*amount)) " of " (show::id(&channel.to_string())) }
        }
        Action::RedeemVouchers { claims } => {
            html! { (show::counted(claims.len(), "lane", "lanes")) }
        }
        Action::RequestWithdraw { channel }
        | Action::FinalizeWithdraw { channel }
        | Action::CloseChannel { channel } => show::id(&channel.to_string()),
        Action::SetCommission { role, rate } => {
            html! { (role) ", " (show::percent(*rate)) }
        }
        Action::Delegate { operator: id, amount } | Action::Undelegate { operator: id, amount } => {
            html! { (show::watt_unit(*amount)) ", " (operator(*id)) }
        }
        Action::Redelegate { from, to, amount } => {
            html! { (show::watt_unit(*amount)) " from " (operator(*from)) " to " (operator(*to)) }
        }
        Action::WithdrawRewards { operator: id } => operator(*id),
        Action::WithdrawCommission { role } | Action::Unjail { role } => html! { (role) },
        Action::SubmitEvidence { evidence } => match evidence {
            Evidence::DoubleVote { .. } => html! { "two votes in one round" },
            Evidence::DoubleProposal { .. } => html! { "two proposals in one round" },
            Evidence::DoubleClaim { .. } => html! { "two totals for one request" },
        },
        Action::RevealPrice { nusd_per_watt, .. } => show::usd(*nusd_per_watt),
        Action::ClaimVested { bucket } => html! { (bucket.name()) },
        Action::CommitReceipts { receipts, .. } => {
            html! { (show::counted(receipts.count as usize, "receipt", "receipts")) }
        }
        Action::RevealVerdict { commitment, verdict, .. } => {
            html! { (verdict.outcome.name()) ", " (show::address(commitment.provider)) }
        }
        Action::ReportCanary { provider, verdict } => {
            html! { (verdict.outcome.name()) ", " (show::address(*provider)) }
        }
        Action::DemandAudit { report, .. } => show::address(report.value.provider),
        Action::CommitVerdict { commitment, .. }
        | Action::RevealPlanted { commitment, .. }
        | Action::Appeal { commitment } => show::address(commitment.provider),
        Action::PublishCalibration { model, backend, .. } => {
            html! { (show::id(&model.to_string())) ", " (backend.name()) }
        }
        Action::RegisterAuditor { addrs, .. } => match addrs.first() {
            Some(addr) => show::foreign(addr),
            None => html! { "reached nowhere any more" },
        },
        Action::UnbondProvider | Action::Heartbeat | Action::CommitPrice { .. } => return None,
    })
}

fn operator(id: OperatorId) -> Markup {
    html! { (id.role) " " (show::address(id.account)) }
}
