//! What the command line of `bench gateway` asks for.

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

use super::{rows::Row, scenarios::Scenario};

const ROUNDS_MAX: usize = 9;

#[derive(Debug)]
pub(super) struct Options {
    pub(super) rounds: usize,
    pub(super) json: bool,
    pub(super) out: Option<PathBuf>,
    /// In the order of the table.
    pub(super) rows: Vec<Row>,
    scenarios: Vec<Scenario>,
}

impl Options {
    pub(super) fn parse(arguments: &[&str]) -> anyhow::Result<Options> {
        let mut options = Options {
            rounds: 3,
            json: false,
            out: None,
            rows: Row::ALL.to_vec(),
            scenarios: Scenario::all().collect(),
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value =
                |what| arguments.next().with_context(|| format!("{argument} needs {what}"));
            match *argument {
                "--json" => options.json = true,
                "--rounds" => {
                    options.rounds =
                        value("a number")?.parse().context("--rounds needs a number")?;
                    ensure!((1..=ROUNDS_MAX).contains(&options.rounds), "--rounds: 1 to 9");
                }
                "--out" => options.out = Some(value("a file")?.into()),
                "--only" => options.only(value("names of rows or scenarios")?)?,
                other => bail!("bench gateway has no option `{other}`; see `cargo xtask help`"),
            }
        }
        Ok(options)
    }

    /// Keeps the rows that are named, if any is, and the scenarios that are named, if any is.
    fn only(&mut self, names: &str) -> anyhow::Result<()> {
        let (mut rows, mut scenarios) = (Vec::new(), Vec::new());
        for name in names.split(',') {
            match (Row::named(name), Scenario::named(name)) {
                (Some(row), _) => rows.push(row),
                (None, Some(scenario)) => scenarios.push(scenario),
                (None, None) => bail!("there is no row or scenario `{name}`; {}", known()),
            }
        }
        if !rows.is_empty() {
            self.rows.retain(|row| rows.contains(row));
        }
        if !scenarios.is_empty() {
            self.scenarios.retain(|scenario| scenarios.contains(scenario));
        }
        Ok(())
    }

    pub(super) fn in_rounds(&self) -> impl Iterator<Item = Scenario> {
        self.scenarios.iter().copied().filter(|it| Scenario::ROUNDS.contains(it))
    }

    /// Those that are measured once.
    pub(super) fn crowds(&self) -> impl Iterator<Item = Scenario> {
        self.scenarios.iter().copied().filter(|it| !Scenario::ROUNDS.contains(it))
    }
}

fn known() -> String {
    let rows: Vec<_> = Row::ALL.into_iter().map(Row::name).collect();
    let scenarios: Vec<_> = Scenario::all().map(Scenario::name).collect();
    format!("rows: {}; scenarios: {}", rows.join(", "), scenarios.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_or_refused() {
        let options = Options::parse(&["--rounds", "2", "--json", "--out", "a.md"]).unwrap();
        assert_eq!((options.rounds, options.json), (2, true));
        assert_eq!(options.out, Some(PathBuf::from("a.md")));
        assert_eq!(options.rows, Row::ALL);
        for bad in
            [&["--rounds"][..], &["--rounds", "10"], &["--out"], &["--fast"], &["--only", "x"]]
        {
            assert!(Options::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rows_and_scenarios_are_chosen_by_name() {
        let options = Options::parse(&["--only", "gateway,crowd-16,nginx"]).unwrap();
        assert_eq!(options.rows, [Row::Nginx, Row::Gateway]);
        assert_eq!(options.scenarios, [Scenario::Crowd(16)]);
        assert_eq!((options.in_rounds().count(), options.crowds().count()), (0, 1));
        let options = Options::parse(&["--only", "gateway"]).unwrap();
        assert_eq!(options.scenarios, Scenario::all().collect::<Vec<_>>());
    }
}
