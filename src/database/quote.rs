//! Quoting, in one place.
//!
//! Invariant: whatever goes in, one literal or one identifier comes out, in any SQL mode but `NO_BACKSLASH_ESCAPES`
//! (which our sessions never set).

/// Quotes a text as an SQL string literal.
pub fn text(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for character in value.chars() {
        match character {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// Quotes a name as an SQL identifier.
pub fn name(value: &str) -> String {
    format!("`{}`", value.replace('\0', "").replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes_from_a_literal_or_an_identifier() {
        assert_eq!(text(r"a'b\c"), r"'a''b\\c'");
        assert_eq!(text("';DROP TABLE x;--"), "''';DROP TABLE x;--'");
        assert_eq!(name("a`b"), "`a``b`");
    }
}
