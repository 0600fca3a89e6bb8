//! The library as everybody uses it contains none of the bugs that tests can switch on.

#![cfg(not(feature = "planted"))]

use std::fs;

#[tokio::test]
async fn the_library_has_no_switch_for_a_bug() -> meshmq::Result<()> {
    // Linked, and run.
    let node = meshmq::Node::isolated().await?;
    let (push, pull) = (node.push("jobs").await?, node.pull("jobs").await?);
    push.send("job").await?;
    pull.recv().await?.ack();
    push.flush().await?;

    // In two parts, or this program would contain it by itself.
    let mark = ["meshmq is built with", "planted bugs"].join(" ");
    let program = fs::read(std::env::current_exe().expect("a program has a path")).expect("a readable file");
    assert!(!program.windows(mark.len()).any(|part| part == mark.as_bytes()), "it is built with switches");
    Ok(())
}
