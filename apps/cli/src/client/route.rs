//! `peerwatt route`: which provider would get a request, and why.

use gateway::RouteCandidate;
use types::Nusd;

use super::api::Api;
use crate::{
    args::{Common, RouteArgs, RouteCommand, RouteExplainArgs},
    home::Home,
    output::Output,
};

pub(crate) async fn run(common: Common, args: RouteArgs, output: Output) -> anyhow::Result<()> {
    let RouteCommand::Explain(args) = args.command;
    let api = Api::new(&Home::open(&common)?, &args.gateway)?;
    let view = api.route(&question(&args), &wishes(&args)).await?;
    // What could be taken first, the best of it at the top.
    let mut candidates: Vec<&RouteCandidate> = view.candidates.iter().collect();
    candidates.sort_by_key(|candidate| (candidate.score.is_none(), candidate.score));
    let head = match &view.provider {
        Some(provider) => format!("{provider} would be asked first"),
        None => "nobody could be asked now".to_owned(),
    };
    let lines = candidates.into_iter().map(line);
    let text = std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n");
    output.result(&view, text)
}

fn question(args: &RouteExplainArgs) -> Vec<(&'static str, String)> {
    let mut question = vec![
        ("model", args.model.clone()),
        ("prompt_tokens", args.prompt_tokens.to_string()),
        ("logprobs", args.logprobs.to_string()),
    ];
    question.extend(args.max_tokens.map(|tokens| ("max_tokens", tokens.to_string())));
    question
}

fn wishes(args: &RouteExplainArgs) -> Vec<(&'static str, String)> {
    [
        ("x-peerwatt-policy", args.policy.clone()),
        ("x-peerwatt-pin-provider", args.pin_provider.map(|provider| provider.to_string())),
        ("x-peerwatt-region", args.region.clone()),
        ("x-peerwatt-max-price", args.max_price.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn line(candidate: &RouteCandidate) -> String {
    let RouteCandidate { provider, slots, in_flight, .. } = candidate;
    let usd = |nusd: Option<Nusd>| nusd.map_or("-".to_owned(), Nusd::to_decimal);
    let ms = candidate.expected_ms.map_or("unmeasured".to_owned(), |ms| format!("{ms} ms"));
    let provider = match &candidate.upstream {
        Some(name) => format!("{provider} ({name}, not verified)"),
        None => provider.to_string(),
    };
    let verdict = candidate.passed.as_deref().unwrap_or("taken");
    format!(
        "{provider}  cost {:>11} USD  {ms:>10}  score {:>11}  {in_flight}/{slots} busy  {verdict}",
        usd(candidate.cost),
        usd(candidate.score),
    )
}
