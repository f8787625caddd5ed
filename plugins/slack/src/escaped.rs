//! Text as Slack's answers have it: three characters are entities (Slack's page "Formatting message text").

/// The text as people wrote it.
pub(crate) fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_comes_back() {
        for (there, written) in
            [("R&amp;D", "R&D"), ("&lt;b&gt;", "<b>"), ("a &amp;lt; b", "a &lt; b"), ("plain", "plain")]
        {
            assert_eq!(unescaped(there), written);
        }
    }
}
