use super::*;

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(line.split_whitespace())
}

#[test]
fn the_definition_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn a_push_with_everything() {
    let args =
        parse("meshmq push jobs a.txt - -0 -m shop --peer a:1 --peer b:2,c:3 --no-mdns --timeout 1.5s -vv").unwrap();
    let Command::Push(push) = args.command else { panic!("not a push") };
    assert_eq!(push.input.files, [PathBuf::from("a.txt"), PathBuf::from("-")]);
    assert!(push.input.null && !push.input.whole);
    assert_eq!(push.common.mesh, "shop");
    assert_eq!(push.common.peers, ["a:1", "b:2", "c:3"]);
    assert!(push.common.no_mdns);
    assert_eq!(push.common.timeout, Some(Duration::from_millis(1500)));
    assert_eq!(push.common.verbose, 2);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "meshmq push",
        "meshmq push jobs --whole -0",
        "meshmq push jobs --listen here",
        "meshmq push jobs -q -v",
        "meshmq pull jobs -n 0",
        "meshmq pull jobs --jobs 4",
        "meshmq pull jobs --exec true --json",
        "meshmq pull jobs --no-such-flag",
        "meshmq pull jobs --timeout 5parsecs",
        "meshmq ls jobs",
        "meshmq key",
        "meshmq key show --key meshkey1abc",
        "meshmq demo . --workers 1",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn what_is_refused_is_told_what_would_do() {
    for (line, what) in [
        ("meshmq push jobs --listen localhost:7000", "write IP:PORT, like 127.0.0.1:7000"),
        ("meshmq pull jobs --metrics 9464", "write IP:PORT, like 127.0.0.1:7000"),
        ("meshmq rep upper", "<--exec <CMD>|--echo> <CHANNEL>"),
        ("meshmq rep upper --echo --exec cat", "cannot be used with"),
    ] {
        let error = parse(line).expect_err(line).to_string();
        assert!(error.contains(what), "{line}: {error}");
    }
}

#[test]
fn durations_have_units() {
    assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
    assert_eq!(duration("2"), Ok(Duration::from_secs(2)));
    assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
    assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
    for bad in ["", "s", "-1s", "0s", "1.2.3s", "1d", "99999999999999999999h"] {
        assert!(duration(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn help_is_one_that_fits_and_has_examples() {
    fn check(command: &mut clap::Command) {
        let help = command.render_help().to_string();
        for part in ["Usage: ", "\n\nExamples:\n  "] {
            assert!(help.contains(part), "no {part:?} in\n{help}");
        }
        let wide: Vec<_> = help.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(wide.is_empty(), "{wide:#?}");
        command.get_subcommands_mut().filter(|sub| sub.get_name() != "help").for_each(check);
    }
    let mut command = Args::command_line();
    command.build();
    check(&mut command);
}

#[test]
fn the_first_help_is_short_and_complete() {
    let help = Args::command_line().render_help().to_string();
    assert!(help.lines().count() <= 45, "{} lines:\n{help}", help.lines().count());
    for part in ["Programs of one user on one machine", "Exit codes:\n  0 ok · ", "MESHMQ_KEY_FILE", "  completions "]
    {
        assert!(help.contains(part), "no {part:?} in\n{help}");
    }
}

#[test]
fn details_and_headings_are_in_the_help() {
    let mut command = Args::command_line();
    let mut help = |name| command.find_subcommand_mut(name).unwrap().render_help().to_string();
    for name in ["push", "pull", "ls"] {
        for heading in ["\nOptions:\n", "\nMesh:\n", "\nCommon:\n"] {
            assert!(help(name).contains(heading), "no {heading:?} in\n{}", help(name));
        }
    }
    for (name, words) in [("pull", "MESHMQ_ATTEMPT (1 at first)"), ("ls", "OLDEST is"), ("key", "Whoever has the key")]
    {
        assert!(help(name).replace('\n', " ").contains(words), "no {words:?} in\n{}", help(name));
    }
}

#[test]
fn help_shows_no_secret_and_no_command_of_the_demos_own() {
    let help = Args::command_line().render_help().to_string();
    assert!(help.contains("MESHMQ_KEY,") && !help.contains("meshkey1") && !help.contains("demo-worker"), "{help}");
}
