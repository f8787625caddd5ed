//! "Did you mean …?"

/// Longer words are not compared: the comparison takes time in proportion to the product of the lengths.
const WORD_CHARS_MAX: usize = 40;
/// Only so many candidates are compared.
const CANDIDATES_MAX: usize = 500;

/// The candidate that `word` was most probably meant to be; none when nothing is near.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let length = word.chars().count();
    if length == 0 || length > WORD_CHARS_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    let allowed = (length / 3).clamp(1, 3);
    candidates
        .into_iter()
        .take(CANDIDATES_MAX)
        .filter(|c| c.chars().count().abs_diff(length) <= 4 && !c.is_empty())
        .filter_map(|c| {
            let other = c.to_lowercase();
            let distance = strsim::damerau_levenshtein(&lower, &other);
            let extends = length >= 3 && (other.starts_with(&lower) || lower.starts_with(&other)) && distance <= 4;
            (distance <= allowed || extends).then_some((distance, c))
        })
        .min_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(b.1)))
        .map(|(_, c)| c)
}
