//! Writes the seeds of every fuzz target into a folder, one below it for each: the corpus from which
//! `cargo fuzz` starts.

use std::path::PathBuf;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let folder: PathBuf = std::env::args_os().nth(1).context("give a folder")?.into();
    for target in fuzz_targets::TARGETS {
        let corpus = folder.join(target.name);
        std::fs::create_dir_all(&corpus).with_context(|| format!("make {}", corpus.display()))?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let path = corpus.join(format!("seed-{number}"));
            std::fs::write(&path, seed).with_context(|| format!("write {}", path.display()))?;
        }
    }
    Ok(())
}
