//! `peerwatt params`: the rules of the ledger in figures, and the bounds they may not leave.

use wire::chain::ParamView;

use super::actor::connect;
use crate::{
    args::{AtArgs, Common},
    home::Home,
    output::Output,
};

pub(crate) async fn run(common: Common, args: AtArgs, output: Output) -> anyhow::Result<()> {
    let params = connect(&Home::open(&common)?, &args)?.params().await?;
    output.result(&params, table(&params))
}

fn table(params: &[ParamView]) -> String {
    let head = ["name", "value", "unit", "min", "max"].map(str::to_owned);
    let row = |it: &ParamView| {
        [it.name.clone(), it.value.clone(), it.unit.clone(), it.min.clone(), it.max.clone()]
    };
    let rows: Vec<[String; 5]> = std::iter::once(head).chain(params.iter().map(row)).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            // Numbers stand with their last digits below each other.
            match column {
                0 | 2 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let param = |name: &str, value: &str| ParamView {
            name: name.to_owned(),
            value: value.to_owned(),
            unit: "ms".to_owned(),
            min: "1".to_owned(),
            max: "100".to_owned(),
        };
        let table = table(&[param("oracle.period_ms", "20"), param("x", "3000")]);
        assert_eq!(
            table,
            "name              value  unit  min  max\n\
             oracle.period_ms     20  ms      1  100\n\
             x                  3000  ms      1  100"
        );
    }
}
