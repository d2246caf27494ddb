//! What a certificate says of itself: until when it holds, and who signed it.
//!
//! Invariant: it reads the two fields that it needs and trusts none of the rest; whether a certificate is good is the TLS
//! library's to say.

/// Reads, from the DER of a certificate, the end of its validity in seconds since the Unix epoch, and a hash of its issuer.
pub fn read(certificate: &[u8]) -> Option<(i64, String)> {
    let (_, outer, _) = element(certificate)?;
    let (_, mut fields, _) = element(outer)?;
    // The version, where it is there, stands before the serial number.
    if fields.first() == Some(&0xa0) {
        fields = element(fields)?.2;
    }
    let after_serial = element(fields)?.2;
    let after_algorithm = element(after_serial)?.2;
    let (_, issuer, rest) = element(after_algorithm)?;
    let (_, validity, _) = element(rest)?;
    let (kind, until, _) = element(element(validity)?.2)?;
    let text = std::str::from_utf8(until).ok()?;
    // UTCTime has two digits of the year, GeneralizedTime four.
    let (year, rest) = if kind == 0x17 {
        let year: i64 = text.get(..2)?.parse().ok()?;
        (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
    } else {
        (text.get(..4)?.parse().ok()?, text.get(4..)?)
    };
    let two = |at: usize| -> Option<i64> { rest.get(at..at + 2)?.parse().ok() };
    let days = days(year, two(0)?, two(2)?);
    let issuer = crate::proof::digest(&serde_json::json!(issuer));
    Some((days * 86_400 + two(4)? * 3600 + two(6)? * 60 + two(8)?, issuer))
}

/// Splits off the first element: its tag, its content, and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, first) = (*bytes.first()?, *bytes.get(1)?);
    let (length, head) = if first < 0x80 {
        (usize::from(first), 2)
    } else {
        let count = usize::from(first & 0x7f);
        let digits = bytes.get(2..2 + count).filter(|digits| (1..=4).contains(&digits.len()))?;
        (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), 2 + count)
    };
    Some((tag, bytes.get(head..head + length)?, bytes.get(head + length..)?))
}

/// Counts the days since 1970-01-01 of a date of the Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // The year begins with March, so that the leap day is its last.
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let century = year.div_euclid(400);
    let in_era = year - century * 400;
    let of_year = (153 * month + 2) / 5 + day - 1;
    century * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(2026, 11, 25), 20_782);
    }

    #[test]
    fn what_is_no_certificate_is_none() {
        assert_eq!(read(b"\x30\x84\xff\xff\xff\xff"), None);
        assert_eq!(read(b""), None);
    }
}
