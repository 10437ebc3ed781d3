//! The pictures that an auditor of this data folder drew: one SVG file a round. Which file is read follows from
//! the parsed name of the round alone, so no address leads out of the folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{
    fs::{self, File},
    io::AsyncReadExt,
};
use types::audit::CommitmentId;

/// An auditor's picture of 4 096 tokens takes a tenth of this.
const PICTURE_BYTES_MAX: u64 = 1 << 20;

/// Why a picture that is there is not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PictureError {
    #[error("reading the picture {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("the picture {path} is no SVG of at most {PICTURE_BYTES_MAX} bytes; remove it")]
    NoPicture { path: PathBuf },
}

/// `None` if the auditor drew none of that round.
pub(crate) async fn read(
    folder: &Path,
    commitment: CommitmentId,
) -> Result<Option<String>, PictureError> {
    let CommitmentId { provider, sequence } = commitment;
    let path = folder.join(format!("{provider}-{sequence}.svg"));
    let mut bytes = Vec::new();
    match read_file(&path, &mut bytes).await {
        Ok(true) => {}
        Ok(false) => return Err(PictureError::NoPicture { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(PictureError::Read { path, source }),
    }
    let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= PICTURE_BYTES_MAX);
    match String::from_utf8(bytes) {
        Ok(text) if fits && text.starts_with("<svg ") => Ok(Some(text)),
        Ok(_) | Err(_) => Err(PictureError::NoPicture { path }),
    }
}

/// Whether it is a file at all: of a pipe, reading might never end. A byte more than is allowed is read, to see that.
async fn read_file(path: &Path, bytes: &mut Vec<u8>) -> io::Result<bool> {
    if !fs::metadata(path).await?.is_file() {
        return Ok(false);
    }
    File::open(path).await?.take(PICTURE_BYTES_MAX + 1).read_to_end(bytes).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use types::Address;

    use super::*;

    #[tokio::test]
    async fn a_picture_is_an_svg_of_bounded_size_by_the_name_of_its_round() {
        let folder = tempfile::tempdir().unwrap();
        let provider = Address([7; 20]);
        let large = format!("<svg {}", "x".repeat(1 << 20));
        for (sequence, content) in
            [(1, "<svg xmlns=\"…\"></svg>\n"), (2, "<html></html>"), (3, &large), (4, "")]
        {
            let name = format!("{provider}-{sequence}.svg");
            fs::write(folder.path().join(name), content).unwrap();
        }
        fs::create_dir(folder.path().join(format!("{provider}-5.svg"))).unwrap();
        for (sequence, expected) in [
            (1, Ok(Some("<svg xmlns=\"…\"></svg>\n".to_owned()))),
            (2, Err(())),
            (3, Err(())),
            (4, Err(())),
            (5, Err(())),
            (6, Ok(None)),
        ] {
            let read = read(folder.path(), CommitmentId { provider, sequence }).await;
            assert_eq!(read.map_err(|_| ()), expected, "{sequence}");
        }
        let nowhere = folder.path().join("nowhere");
        let read = read(&nowhere, CommitmentId { provider, sequence: 1 }).await;
        assert!(matches!(read, Ok(None)));
    }
}
