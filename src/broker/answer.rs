//! The time that the broker has to answer.
//!
//! What can go wrong here: lapin waits for ever for the answer to a method, and heartbeats go on
//! where only that answer is lost; it also forgets a channel that is asked for while the connection
//! ends. So every method that the broker answers is called through [`answered`], and the error ends
//! the generation as any other does.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use crate::broker::budget::Budget;

/// How long the broker may take to answer one method. Declaring a quorum queue takes the longest: a
/// few milliseconds, or some seconds while the cluster elects a leader.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for the answer to an AMQP method, such as `queue.declare`.
pub(super) async fn answered<T>(
    method: &str,
    call: impl Future<Output = lapin::Result<T>>,
) -> lapin::Result<T> {
    timeout(ANSWER_TIMEOUT, call)
        .await
        .unwrap_or_else(|_elapsed| Err(silence(method)))
}

/// Waits for an answer that may come behind messages which the budget holds up: that time does not
/// count.
pub(super) async fn answered_in_turn<T>(
    method: &str,
    budget: &Budget,
    call: impl Future<Output = lapin::Result<T>>,
) -> lapin::Result<T> {
    let mut call = pin!(call);
    loop {
        match timeout(ANSWER_TIMEOUT, call.as_mut()).await {
            Ok(answer) => return answer,
            Err(_elapsed) if budget.was_exceeded() => {}
            Err(_elapsed) => return Err(silence(method)),
        }
    }
}

fn silence(method: &str) -> lapin::Error {
    let problem = format!("no answer to {method} within {ANSWER_TIMEOUT:?}");
    io::Error::new(io::ErrorKind::TimedOut, problem).into()
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_is_an_error_that_names_the_method() {
        let never = std::future::pending::<lapin::Result<()>>();
        let error = answered("basic.qos", never).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no answer to basic.qos within 10s"), "{text}");
        assert_eq!(answered("basic.qos", async { Ok(7) }).await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_the_budget_holds_up_the_answer_does_not_count() {
        let budget = Budget::new(0);
        budget.read(1, 0);
        let late = async {
            for _ in 0..5 {
                assert!(budget.is_exceeded(Waker::noop()));
                sleep(ANSWER_TIMEOUT / 2).await;
            }
            Ok(7)
        };
        let answer = answered_in_turn("basic.cancel", &budget, late).await;
        assert_eq!(answer.unwrap(), 7);
        let never = std::future::pending::<lapin::Result<()>>();
        let answer = answered_in_turn("basic.cancel", &budget, never).await;
        assert!(answer.is_err());
    }
}
