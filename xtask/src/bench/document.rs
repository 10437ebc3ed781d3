//! Figures in a document: they stand between two comments, which name them.

use std::path::Path;

use anyhow::{Context, ensure};

/// Puts `table` into `document` in place of what stands between the comments of `name`.
pub(super) fn replace_in(document: &Path, name: &str, table: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(document)
        .with_context(|| format!("read {}", document.display()))?;
    let text = replaced(&text, name, table)
        .with_context(|| format!("put the figures into {}", document.display()))?;
    std::fs::write(document, text).with_context(|| format!("write {}", document.display()))
}

fn replaced(text: &str, name: &str, table: &str) -> anyhow::Result<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let (before, rest) = text.split_once(&begin).with_context(|| format!("no line `{begin}`"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no line `{end}`"))?;
    ensure!(!after.contains(&begin), "more than one line `{begin}`");
    Ok(format!("{before}{begin}\n{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_part_between_the_marks_changes() {
        let text = |inner: &str| {
            let other = "<!-- other x: begin -->\nkept\n<!-- other x: end -->";
            format!("a\n{other}\n<!-- x: begin -->\n{inner}<!-- x: end -->\nb\n")
        };
        assert_eq!(replaced(&text("old\n"), "x", "new\n").unwrap(), text("new\n"));
        assert!(replaced("a", "x", "new").is_err());
    }
}
