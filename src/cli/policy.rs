//! The command line that sets a policy.

use crate::broker::Policy;

/// Returns the command that sets a policy in a virtual host, which is quoted already.
pub(super) fn set_policy(vhost: &str, policy: &Policy) -> String {
    let definition: serde_json::Value = policy.definition.clone().into_iter().collect();
    format!(
        "rabbitmqctl set_policy -p {vhost} --apply-to {} --priority {} {} {} {}",
        policy.apply_to,
        policy.priority,
        quoted(&policy.name),
        quoted(&policy.pattern),
        quoted(&definition.to_string()),
    )
}

/// Writes a text as one word of a shell's command line.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_quoted_text_as_one_word() {
        for (text, word) in [
            ("/", "'/'"),
            ("", "''"),
            (r"^a\.(b|c)$", r"'^a\.(b|c)$'"),
            ("o'clock", r"'o'\''clock'"),
        ] {
            assert_eq!(quoted(text), word);
        }
    }
}
