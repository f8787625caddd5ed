//! Tables that fit a terminal.

use super::super::output::columns;

/// Columns of a terminal that does not say how many it has.
const WIDTH_DEFAULT: usize = 80;
/// How much deeper than its row a cell stands that found no room in it.
const DEEPER: usize = 4;

/// How wide lines can be: `COLUMNS`, where it says something sensible.
pub(super) fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    said.filter(|columns| (40..=400).contains(columns)).unwrap_or(WIDTH_DEFAULT)
}

/// Columns under their headings, as far as they fit into `width`; the cells of the others stand under their row, broken
/// at spaces. A word that is longer than a line stays whole.
pub(super) fn fitted(headings: &[&str], rows: &[Vec<String>], width: usize) -> String {
    let widest = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].chars().count()]).max().unwrap_or_default()
    };
    let mut room = width;
    let mut fits = 0;
    for column in 0..headings.len() {
        let needed = widest(column) + if column == 0 { 0 } else { 2 };
        if needed > room {
            break;
        }
        room -= needed;
        fits = column + 1;
    }
    // The first one is what the row is of.
    let fits = fits.max(1);
    if fits == headings.len() {
        return columns(headings, rows);
    }
    let short: Vec<Vec<String>> = rows.iter().map(|row| row.iter().take(fits).cloned().collect()).collect();
    let lines = columns(&headings[..fits], &short);
    let mut lines = lines.lines();
    let indent = headings[0].chars().take_while(|c| *c == ' ').count() + DEEPER;
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    text.push_str(&format!("{}{}\n", " ".repeat(indent), headings[fits..].join("; ")));
    for (line, row) in lines.zip(rows) {
        text.push_str(line);
        text.push('\n');
        for cell in row.iter().skip(fits).filter(|cell| !cell.is_empty()) {
            wrapped(&mut text, cell, indent, width);
        }
    }
    text
}

/// Lines of a text, each `indent` deep and, where words allow it, no wider than `width`.
fn wrapped(text: &mut String, words: &str, indent: usize, width: usize) {
    let mut used = 0;
    for word in words.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            text.push('\n');
            used = 0;
        }
        if used == 0 {
            text.push_str(&" ".repeat(indent));
            used = indent + length;
        } else {
            text.push(' ');
            used += 1 + length;
        }
        text.push_str(word);
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn author_13_a_table_fits_the_terminal() {
        let many = "message.send, channel.find, channel.invite, usergroup.add-user, usergroup.remove-user";
        let rows = [
            row(&["  chat.post-message", "chat.postMessage", "writes", many]),
            row(&["  users.info", "users.info", "reads", "one"]),
        ];
        let text = fitted(&["  IMPORT", "METHOD", "DOES", "DECLARED BY"], &rows, 60);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        let wanted = "  IMPORT             METHOD            DOES\n      DECLARED BY\n  chat.post-message  chat.postMessage  writes\n      \
                      message.send, channel.find, channel.invite,\n      usergroup.add-user, usergroup.remove-user\n  users.info         \
                      users.info        reads\n      one\n";
        assert_eq!(text, wanted);
        let wide = fitted(&["  IMPORT", "METHOD", "DOES", "DECLARED BY"], &rows, 400);
        assert_eq!(wide.lines().count(), 3, "{wide}");
    }

    #[test]
    fn a_word_longer_than_a_line_stays_whole() {
        let rows = [row(&["a-name-that-is-longer-than-the-line", "what it does"])];
        assert_eq!(
            fitted(&["NAME", "DOES"], &rows, 20),
            "NAME\n    DOES\na-name-that-is-longer-than-the-line\n    what it does\n"
        );
    }
}
