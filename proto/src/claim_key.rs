//! When two logins or e-mails are the same: the store keeps them unique by it, the gateway counts failures by it.

use unicode_normalization::UnicodeNormalization;

/// What two logins or e-mails share when they are the same to the protocol: NFC and lower case.
pub fn claim_key(text: &str) -> String {
    text.nfc().collect::<String>().to_lowercase().nfc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_form_do_not_matter_and_accents_do() {
        assert_eq!(claim_key("E\u{301}VA"), claim_key("\u{e9}va"));
        assert_ne!(claim_key("eva"), claim_key("\u{e9}va"));
    }
}
