//! By which of a connection's tokens a call goes out: as whom it is made.

use super::{Access, TokenKind};

/// The accesses by which a call of a method may go out, the preferred one first. `said` is what the file says on the task.
///
/// A method that takes one kind of token alone goes out by that kind, whatever the file says. Where the file says nothing,
/// what speaks in somebody's name goes out as the app, as soon as the connection holds a bot's token: nobody is to find a
/// message that he has not written, because a scope was missing.
#[must_use]
pub fn open_to(
    access: &[Access],
    speaks: bool,
    said: Option<TokenKind>,
    holds: impl Fn(TokenKind) -> bool,
) -> Vec<&Access> {
    let takes = |kind: &TokenKind| access.iter().any(|access| access.token == *kind);
    let only = match said {
        Some(kind) => Some(kind),
        None => Some(TokenKind::Bot).filter(|bot| speaks && holds(*bot)),
    };
    let only = only.filter(takes);
    access.iter().filter(|access| only.is_none_or(|kind| access.token == kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slack_13_what_speaks_goes_out_as_a_person_only_where_the_file_says_so() {
        use TokenKind::{Bot, User};
        let all = |kinds: &[TokenKind]| -> Vec<Access> {
            let access = |token: &TokenKind| Access { token: *token, scopes: vec![], depends_on_arguments: false };
            kinds.iter().map(access).collect()
        };
        for (takes, speaks, said, held, open) in [
            (&[Bot, User][..], false, None, &[Bot, User][..], &[Bot, User][..]),
            (&[Bot, User], true, None, &[Bot, User], &[Bot]),
            // There is nobody else who could speak.
            (&[Bot, User], true, None, &[User], &[Bot, User]),
            (&[Bot, User], true, Some(User), &[Bot, User], &[User]),
            (&[Bot, User], true, Some(Bot), &[User], &[Bot]),
            (&[Bot, User], false, Some(User), &[Bot], &[User]),
            (&[Bot, User], false, Some(Bot), &[Bot, User], &[Bot]),
            // One kind alone is taken.
            (&[User], true, None, &[Bot, User], &[User]),
            (&[User], true, Some(Bot), &[Bot, User], &[User]),
            (&[Bot], false, Some(User), &[Bot, User], &[Bot]),
        ] {
            let access = all(takes);
            let found = open_to(&access, speaks, said, |kind| held.contains(&kind));
            let found: Vec<TokenKind> = found.into_iter().map(|access| access.token).collect();
            assert_eq!(found, open, "{takes:?} {speaks} {said:?} {held:?}");
        }
    }
}
