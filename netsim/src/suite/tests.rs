use super::*;

fn wanted(variables: &[(&str, &str)]) -> Result<Wanted, String> {
    let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    Wanted::from_env(find)
}

#[test]
fn the_environment_says_which_seeds() {
    assert_eq!(wanted(&[]), Ok(Wanted::Own));
    assert_eq!(wanted(&[("NETSIM_SEED", "7")]).unwrap().seeds(0..100), 7..8);
    assert_eq!(wanted(&[("NETSIM_SEEDS", "1000")]).unwrap().seeds(5..20), 5..1005);
    assert_eq!(wanted(&[("NETSIM_SEEDS", "3..9")]).unwrap().seeds(0..100), 3..9);
    let fresh = wanted(&[("NETSIM_FRESH", "1")]).unwrap().seeds(5..20);
    assert_eq!(fresh.end - fresh.start, 15);
    assert_ne!(wanted(&[("NETSIM_FRESH", "1")]).unwrap().seeds(5..20), fresh);
    let fresh = wanted(&[("NETSIM_FRESH", "1"), ("NETSIM_SEEDS", "1000")]).unwrap().seeds(0..5);
    assert_eq!(fresh.end - fresh.start, 1000);
}

#[test]
fn a_few_seeds_of_others_need_not_meet_what_the_own_ones_do() {
    let enough = |variables: &[(&str, &str)]| wanted(variables).unwrap().is_enough(&(5..20));
    assert!(enough(&[]));
    assert!(!enough(&[("NETSIM_SEED", "7")]));
    assert!(enough(&[("NETSIM_SEEDS", "15")]), "the same");
    assert!(!enough(&[("NETSIM_SEEDS", "14")]));
    assert!(enough(&[("NETSIM_SEEDS", "3..20")]), "the same among others");
    assert!(!enough(&[("NETSIM_SEEDS", "20..169")]));
    assert!(enough(&[("NETSIM_SEEDS", "20..170")]), "ten times as many");
    assert!(!enough(&[("NETSIM_FRESH", "1")]), "so many would miss it now and then");
    assert!(enough(&[("NETSIM_FRESH", "1"), ("NETSIM_SEEDS", "150")]));
}

#[test]
fn what_the_environment_says_wrongly_is_told() {
    let wrong = |variables: &[(&str, &str)]| wanted(variables).unwrap_err();
    assert_eq!(wrong(&[("NETSIM_SEED", "seven")]), "NETSIM_SEED is a number, not `seven`");
    assert_eq!(wrong(&[("NETSIM_SEEDS", "1..x")]), "NETSIM_SEEDS is a number, not `x`");
    assert_eq!(wrong(&[("NETSIM_SEEDS", "9..3")]), "NETSIM_SEEDS is `9..3`, and there is no seed in it");
    assert_eq!(wrong(&[("NETSIM_SEEDS", "0")]), "NETSIM_SEEDS is at least 1");
    assert_eq!(wrong(&[("NETSIM_FRESH", "yes")]), "NETSIM_FRESH is 1 or 0, not `yes`");
    assert!(wrong(&[("NETSIM_FRESH", "1"), ("NETSIM_SEEDS", "1..3")]).contains("contradict"));
}

const PLACE: Place = Place {
    package: "shop",
    crate_name: "work_queue",
    module: "work_queue::workers",
    name: "none_is_lost",
    file: "shop/tests/work-queue.rs",
    binary: None,
    integration: true,
    release: false,
};

#[test]
fn the_command_names_the_test_exactly() {
    let command = |place: Place| {
        let command = place.command(7);
        command.split_once(" cargo ").unwrap().1.to_owned()
    };
    let exact = "-- --exact workers::none_is_lost";
    assert_eq!(command(PLACE), format!("test -p shop --test work-queue {exact}"));
    let folder = Place { file: "shop/tests/work_queue/workers.rs", ..PLACE };
    assert_eq!(command(folder), format!("test -p shop --test work_queue {exact}"));
    let elsewhere = Place { file: "shop/tests/shared/workers.rs", ..PLACE };
    assert_eq!(command(elsewhere), format!("test -p shop --test work_queue {exact}"));
    let library = Place { integration: false, release: true, ..PLACE };
    assert_eq!(command(library), format!("test --release -p shop --lib {exact}"));
    let binary = Place { integration: false, binary: Some("shop"), ..PLACE };
    assert_eq!(command(binary), format!("test -p shop --bin shop {exact}"));
    assert_eq!(Place { module: "work_queue", ..PLACE }.path(), "none_is_lost");
}

#[test]
fn several_run_at_a_time_and_the_first_that_fails_is_told() {
    let outcome = |seed| {
        let trace = Sim::run(1, async |_| ()).trace;
        match seed {
            5 | 6 | 9 => Err(Failed { seed, message: "on purpose".to_owned(), trace: Box::new(trace) }),
            _ => Ok(Run { value: (), trace }),
        }
    };
    for jobs in [1, 4] {
        let mut results = Results::default();
        results.gather(0..1000, jobs, &outcome);
        assert_eq!(results.failed().unwrap().seed, 5);
        // How many are begun meanwhile is up to the machine; alone, none is.
        assert!(results.by_seed.len() < if jobs == 1 { 7 } else { 1000 }, "{} were begun", results.by_seed.len());
        assert!((0..=5).all(|seed| results.by_seed.contains_key(&seed)));
    }
    let mut results = Results::default();
    results.gather(10..20, 4, &|_| Ok(Run { value: (), trace: Sim::run(1, async |_| ()).trace }));
    assert!(results.failed().is_none() && results.by_seed.keys().copied().eq(10..20));
}
