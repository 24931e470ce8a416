//! A short visit to the broker: in, look or declare, and out again.
//!
//! What can go wrong here is what can go wrong with any [`connect`](crate::broker::connect) and
//! [`declare`](crate::broker::declare); nothing is tried twice, for an operator is waiting.

use crate::broker::connect::Address;
use crate::broker::declare::{Declared, complete, inspect};
use crate::broker::topology::Topology;
use crate::broker::trouble::Trouble;
use crate::broker::{Declare, OperatorMustAct, Settings};
use crate::metrics::Role;

/// Opens the broker, looks at every exchange and queue without changing anything, and names what
/// is missing or refused.
///
/// # Errors
/// If the broker cannot be reached or entered at all.
pub async fn check(settings: &Settings) -> Result<Vec<String>, OperatorMustAct> {
    let address = Address::new(settings)?;
    let topology = Topology::new(settings);
    let inspected = async {
        let link = address.connect(Role::Consume).await?;
        let findings = inspect(&link.connection, topology.objects(), settings.declare).await?;
        link.close().await;
        Ok(findings)
    };
    let inspected: Result<_, Trouble> = inspected.await;
    inspected.map_err(|trouble| verdict(&trouble, &address, settings.declare))
}

/// Makes every exchange, queue and binding exist, whatever the daemon itself may declare.
///
/// `declared` tells what was done, also where an error ends it.
///
/// # Errors
/// If the broker cannot be reached or entered, or refuses an object; what was made before stays.
pub async fn declare_topology(
    settings: &Settings,
    declared: &mut Declared,
) -> Result<(), OperatorMustAct> {
    let address = Address::new(settings)?;
    let topology = Topology::new(settings);
    let completed = async {
        let link = address.connect(Role::Consume).await?;
        complete(&link.connection, topology.objects(), declared).await?;
        link.close().await;
        Ok(())
    };
    let completed: Result<_, Trouble> = completed.await;
    completed.map_err(|trouble| verdict(&trouble, &address, Declare::Create))
}

fn verdict(trouble: &Trouble, address: &Address, declare: Declare) -> OperatorMustAct {
    let unreachable = || OperatorMustAct::Unreachable {
        address: address.to_string(),
        reason: trouble.to_string(),
    };
    let act = trouble.operator_must_act(declare);
    act.or_else(|| trouble.refusal())
        .unwrap_or_else(unreachable)
}
