//! The scores of each token, for whoever wants to draw other curves.

use std::{fmt::Write as _, io, path::Path};

use verify::score::Score;

use crate::Cell;

/// One file for each provider, of lines `answer,token,L1,L2,projection`. Of the step that ended an answer there is L2 alone, and
/// projections are of our engine's.
pub(crate) fn write(folder: &Path, sampler: &str, cells: &[Cell]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for cell in cells {
        let mut text = String::from("answer,token,l1,l2,projection\n");
        for (answer, scores) in cell.scores.iter().enumerate() {
            for at in 0..scores.l1.len().max(scores.l2.len()) {
                let score =
                    |of: &[Score]| of.get(at).map_or(String::new(), |it| it.get().to_string());
                // Writing to a string cannot fail.
                let (l1, l2) = (score(&scores.l1), score(&scores.l2));
                let projection = score(&scores.projections);
                let _ = writeln!(text, "{answer},{at},{l1},{l2},{projection}");
            }
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String =
            format!("{sampler} {}", cell.provider.name()).chars().map(plain).collect();
        std::fs::write(folder.join(name).with_extension("csv"), text)?;
    }
    Ok(())
}
