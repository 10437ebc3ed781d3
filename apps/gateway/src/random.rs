//! Randomness of the system, taken from it for several requests at once: a system call for each 16 bytes costs more than
//! the bytes.

use std::cell::RefCell;

/// Asked of the system at once.
const POOL_BYTES: usize = 512;

/// What was drawn and not given out. Given bytes are wiped.
struct Pool {
    bytes: [u8; POOL_BYTES],
    left: usize,
}

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL_BYTES], left: 0 }) };
}

/// Bytes that nobody can guess and nobody else is given.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    const { assert!(N <= POOL_BYTES) };
    POOL.with_borrow_mut(|pool| {
        if pool.left < N {
            getrandom::fill(&mut pool.bytes)?;
            pool.left = POOL_BYTES;
        }
        let from = pool.left - N;
        let mut given = [0; N];
        if let Some(drawn) = pool.bytes.get_mut(from..pool.left) {
            given.copy_from_slice(drawn);
            drawn.fill(0);
        }
        pool.left = from;
        Ok(given)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_bytes_are_given_twice_and_none_are_left_out() {
        let drawn: BTreeSet<[u8; 16]> = (0..1_000).map(|_| bytes().unwrap()).collect();
        assert_eq!(drawn.len(), 1_000);
        let mixed: BTreeSet<[u8; 8]> = (0..1_000)
            .flat_map(|_| {
                let [a, b]: [[u8; 8]; 2] = [bytes().unwrap(), bytes().unwrap()];
                let _ = bytes::<24>().unwrap();
                [a, b]
            })
            .collect();
        assert_eq!(mixed.len(), 2_000);
        assert!(!mixed.contains(&[0; 8]));
    }
}
