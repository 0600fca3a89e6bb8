//! What a node starts with, and what it says when it can not.

use super::*;

/// In a process of its own, whose user has no key yet.
#[test]
fn the_users_first_key_comes_of_the_nodes_own_randomness() {
    let configuration = tempfile::tempdir().unwrap();
    let test = "node::tests::starting::a_key_is_made_of_the_worlds_randomness";
    alone_with(test, &[("XDG_CONFIG_HOME", configuration.path().as_os_str())]);
}

#[tokio::test]
#[ignore = "run by the test before it"]
async fn a_key_is_made_of_the_worlds_randomness() {
    let mut env = world(None);
    env.random = Arc::new(SameIdentity(AtomicBool::new(false), env.random));
    let node = Node::builder("test").without_mdns().without_local().listen(loopback()).env(env).await.unwrap();
    let key = MeshKey::load(&MeshKey::config_path().unwrap()).unwrap();
    assert_eq!(key, MeshKey::from_bytes([7; 32]), "the first that was drawn");
    drop(node);
}
