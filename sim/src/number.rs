//! Whole numbers as users write them: decimal, or hexadecimal after `0x`, and digits alone.

/// The number that a text is; `None` for any other text, and beyond 2^64-1.
pub fn whole(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    // The standard library takes a sign, too.
    let plain = digits.chars().all(|c| c.is_digit(radix));
    u64::from_str_radix(digits, radix).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits() {
        assert_eq!(whole("18446744073709551615"), Some(u64::MAX));
        assert_eq!(whole("0xFf"), Some(255));
        for wrong in [
            "",
            "+5",
            "-5",
            " 5",
            "5.0",
            "0x",
            "0x+5",
            "five",
            "1e1",
            "18446744073709551616",
        ] {
            assert_eq!(whole(wrong), None, "{wrong}");
        }
    }
}
