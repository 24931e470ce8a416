//! `pushrider schema`: print the JSON Schema of a message of the contract.

use std::io::Write;

use clap::{Args, ValueEnum};
use strum::VariantArray;

use super::failure::Failure;

/// Print the JSON Schema (draft 2020-12) of an event, of a control message or of an output
#[derive(Debug, Args)]
pub struct Schema {
    /// Which message
    #[arg(value_enum)]
    message: Message,
}

/// The messages that have a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, VariantArray)]
pub enum Message {
    /// What producers publish
    Event,
    /// What cancels events and forgets recipients
    Control,
    /// What became of one recipient
    Result,
    /// What one pass over many recipients settled
    Summary,
    /// What happened to a subscription
    Subscription,
    /// What is new of a campaign
    Progress,
}

impl Message {
    /// Returns the text of its JSON Schema, a JSON object.
    #[must_use]
    pub fn schema(self) -> &'static str {
        match self {
            Self::Event => include_str!("../../config/schemas/event.json"),
            Self::Control => include_str!("../../config/schemas/control.json"),
            Self::Result => include_str!("../../config/schemas/result.json"),
            Self::Summary => include_str!("../../config/schemas/summary.json"),
            Self::Subscription => include_str!("../../config/schemas/subscription.json"),
            Self::Progress => include_str!("../../config/schemas/progress.json"),
        }
    }
}

impl Schema {
    pub(super) fn execute(self, out: &mut impl Write) -> Result<(), Failure> {
        out.write_all(self.message.schema().as_bytes())?;
        out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_has_a_schema_of_its_own() {
        for &message in Message::VARIANTS {
            let mut printed = Vec::new();
            Schema { message }.execute(&mut printed).unwrap();
            let schema: serde_json::Value = serde_json::from_slice(&printed).unwrap();
            let name = message.to_possible_value().unwrap();
            let id = format!("urn:pushrider:schema:{}:1", name.get_name());
            assert_eq!(schema["$id"], id);
        }
    }
}
