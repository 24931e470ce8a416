//! Texts of others, made fit for a terminal.

/// Returns a text whose control characters are escaped, so that it cannot move the cursor.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
