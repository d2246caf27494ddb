//! What two bodies differ in, beyond what one side's own answers differ in from one to the next.
//!
//! Invariant: what differs between two answers of the old side is no difference of the new one, nor is what has the same
//! shape: a token, a time, the number of a request.

use std::collections::{BTreeMap, BTreeSet};

/// How many characters of a part are shown.
const SHOWN: usize = 160;

/// Lists the parts that only the old side has, and those that only the new one has.
pub fn differences(old: &str, again: &str, new: &str, ignore: &[String]) -> (Vec<String>, Vec<String>) {
    let (old, again, new) = (parts(old, ignore), parts(again, ignore), parts(new, ignore));
    let noise: BTreeSet<String> =
        beyond(&old, &again).into_iter().chain(beyond(&again, &old)).map(|part| shape(&part)).collect();
    let real = |parts: Vec<String>| parts.into_iter().filter(|part| !noise.contains(&shape(part))).collect();
    (real(beyond(&old, &new)), real(beyond(&new, &old)))
}

/// Cuts a body into what stands on a line of its own, or between two tags.
fn parts(body: &str, ignore: &[String]) -> Vec<String> {
    body.replace('<', "\n<")
        .split(['\n', '>', '\r'])
        .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|part| !part.is_empty() && !ignore.iter().any(|ignored| part.contains(ignored.as_str())))
        .collect()
}

/// Lists what one has more often than the other, each in the order of the page.
fn beyond(one: &[String], other: &[String]) -> Vec<String> {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for part in other {
        *left.entry(part).or_default() += 1;
    }
    let mut more = Vec::new();
    for part in one {
        match left.get_mut(part.as_str()) {
            Some(count) if *count > 0 => *count -= 1,
            _ => more.push(part.clone()),
        }
    }
    more
}

/// Writes a part with every word that looks made up as it was asked for replaced by one sign.
pub fn shape(part: &str) -> String {
    let mut shape = String::with_capacity(part.len());
    let mut word = String::new();
    let end = |word: &mut String, shape: &mut String| {
        let made_up = word.len() > 20 || word.bytes().any(|byte| byte.is_ascii_digit());
        if made_up {
            shape.push('#');
        } else {
            shape.push_str(word);
        }
        word.clear();
    };
    for letter in part.chars() {
        if letter.is_alphanumeric() {
            word.push(letter);
        } else {
            end(&mut word, &mut shape);
            shape.push(letter);
        }
    }
    end(&mut word, &mut shape);
    shape
}

/// Cuts a part down to what a report bears.
pub fn shown(part: &str) -> String {
    let short: String = part.chars().take(SHOWN).collect();
    if short.len() < part.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_one_answer_to_the_next_is_no_difference() {
        let page =
            |token: &str, text: &str| format!("<p>{text}</p><input name=\"t\" value=\"{token}\"><i>took 12 ms</i>");
        let (old, again) = (page("a81f3c", "hello"), page("77bd02", "hello"));
        assert_eq!(differences(&old, &again, &page("0c4d5e", "hello"), &[]), (vec![], vec![]));
        let (gone, come) = differences(&old, &again, &page("0c4d5e", "good bye"), &[]);
        assert_eq!((gone, come), (vec!["hello".to_owned()], vec!["good bye".to_owned()]));
    }

    #[test]
    fn a_number_that_is_steady_on_the_old_side_is_compared() {
        let (gone, come) = differences("<b>42 pages", "<b>42 pages", "<b>41 pages", &[]);
        assert_eq!((gone.len(), come.len()), (1, 1));
    }

    #[test]
    fn what_is_there_once_less_is_seen_and_what_is_named_is_left_out() {
        assert_eq!(differences("<a\n<a", "<a\n<a", "<a", &[]).0, vec!["<a"]);
        let ignore = ["wgHostname".to_owned()];
        assert_eq!(
            differences("x\n\"wgHostname\":\"a\"", "x\n\"wgHostname\":\"a\"", "x\n\"wgHostname\":\"b\"", &ignore),
            (vec![], vec![])
        );
    }
}
