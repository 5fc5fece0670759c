//! Masking (RFC 6455, section 5.3).

/// Masks or unmasks `bytes`. Returns the mask for what follows them.
pub(crate) fn apply(mask: [u8; 4], bytes: &mut [u8]) -> [u8; 4] {
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= key;
    }
    let mut next = mask;
    next.rotate_left(bytes.len() % 4);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_may_be_unmasked_in_parts_of_any_size() {
        let mask = [1, 20, 130, 255];
        let clear: Vec<u8> = (0..100).collect();
        let masked: Vec<u8> = clear.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        for first in 0..40 {
            for second in 0..20 {
                let mut bytes = masked.clone();
                let next = apply(mask, &mut bytes[..first]);
                let next = apply(next, &mut bytes[first..first + second]);
                apply(next, &mut bytes[first + second..]);
                assert_eq!(bytes, clear);
            }
        }
    }
}
