//! Frames on a byte stream: a little-endian `u32` length, then that many bytes of borsh.

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use types::limits::{self, DecodeError};

/// Reads one message of at most `bytes_max` bytes. `Ok(None)`: the peer ended the stream between frames.
pub async fn read<T, R>(reader: &mut R, bytes_max: usize) -> Result<Option<T>, FrameError>
where
    T: BorshDeserialize,
    R: AsyncRead + Unpin,
{
    let mut prefix = [0; 4];
    match reader.read_exact(&mut prefix).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(source) => return Err(FrameError::Io { source }),
    }
    let len = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    if len > bytes_max {
        return Err(FrameError::TooLong { bytes: len, bytes_max });
    }
    // `take` grows with what arrives: a peer that only claims a length makes us allocate nothing.
    let mut bytes = Vec::with_capacity(len.min(64 * 1024));
    let taken = u64::try_from(len).unwrap_or(u64::MAX);
    reader.take(taken).read_to_end(&mut bytes).await.map_err(|source| FrameError::Io { source })?;
    if bytes.len() < len {
        return Err(FrameError::Cut { bytes: bytes.len(), expected: len });
    }
    limits::decode(&bytes, bytes_max).map(Some).map_err(|source| FrameError::Decode { source })
}

/// Takes the first message off `buffer`, for readers that poll. `Ok(None)`: it is not whole yet.
pub fn take<T: BorshDeserialize>(
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> Result<Option<T>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let len = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
    if len > bytes_max {
        return Err(FrameError::TooLong { bytes: len, bytes_max });
    }
    let Some(frame) = buffer.get(4..4 + len) else { return Ok(None) };
    let message =
        limits::decode(frame, bytes_max).map_err(|source| FrameError::Decode { source })?;
    buffer.advance(4 + len);
    Ok(Some(message))
}

/// The bytes of one frame, to be written in one call or joined with others.
pub fn encode<T: BorshSerialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    borsh::to_writer(&mut bytes, message).map_err(|source| FrameError::Io { source })?;
    let len = bytes.len() - 4;
    let prefix = u32::try_from(len)
        .map_err(|_| FrameError::TooLong { bytes: len, bytes_max: limits::FRAME_BYTES_MAX })?;
    bytes[..4].copy_from_slice(&prefix.to_le_bytes());
    Ok(bytes)
}

/// Writes one message.
pub async fn write<T, W>(writer: &mut W, message: &T) -> Result<(), FrameError>
where
    T: BorshSerialize,
    W: AsyncWrite + Unpin,
{
    let bytes = encode(message)?;
    writer.write_all(&bytes).await.map_err(|source| FrameError::Io { source })
}

/// Why a frame could not be read or written. All but `Io` mean that the peer broke the protocol.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the stream to the peer failed")]
    Io { source: std::io::Error },
    #[error("a frame of {bytes} bytes is longer than the {bytes_max} allowed")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("the stream ended {bytes} bytes into a frame of {expected}")]
    Cut { bytes: usize, expected: usize },
    #[error("a frame does not hold the message it should")]
    Decode { source: DecodeError },
}
