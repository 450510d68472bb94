//! The configuration as it is read, and the example file as a test.

use super::*;

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    read("spool.toml", text, variables).map_err(|failure| {
        assert_eq!(failure.exit, Exit::Config);
        failure.sentence
    })
}

/// A complaint says all of `words`.
fn check_refused(text: &str, variables: &[(&str, &str)], words: &[&str]) {
    let complaint = read_with(text, variables).expect_err(text);
    for word in words {
        assert!(complaint.contains(word), "{complaint:?} lacks {word:?}");
    }
}

const EXAMPLE: &str = include_str!("../../spool.example.toml");

#[test]
fn the_example_shows_the_default_of_every_key_it_sets() {
    let example = read_with(EXAMPLE, &[]).expect("the example file");
    assert_eq!(format!("{example:#?}"), format!("{:#?}", Config::default()));
}

#[test]
fn the_example_leaves_no_key_out() {
    // The pretty form of a struct has one field a line, those of its sections four spaces further in.
    let mut section = String::new();
    for line in format!("{:#?}", Config::default()).lines() {
        let Some((name, _)) = line.split_once(": ") else { continue };
        let depth = name.len() - name.trim_start().len();
        let name = name.trim_start();
        match depth {
            4 => section = name.to_owned(),
            8 => assert!(shows(&section, name), "spool.example.toml lacks {section}.{name}"),
            _ => {}
        }
        assert!(
            depth != 4 || shows("", name) || EXAMPLE.contains(&format!("[{name}")),
            "spool.example.toml lacks {name}"
        );
    }
}

/// Does the example have this key in this section, set or commented out? Passwords and stores are shown as sections.
fn shows(section: &str, name: &str) -> bool {
    let mut here = "";
    EXAMPLE.lines().map(|line| line.trim_start_matches('#')).any(|line| {
        if let Some(title) = line.strip_prefix('[') {
            here = title.trim_end_matches(']');
            return here == format!("{section}.{name}");
        }
        here == section && line.split_once(" =").is_some_and(|(key, _)| key == name)
    })
}

#[test]
fn what_the_example_has_commented_out_is_valid_too() {
    // A setting that is commented out has no space behind its #; prose has one.
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => setting.to_owned(),
        _ => line.to_owned(),
    };
    let all: String = EXAMPLE.lines().map(|line| uncomment(line) + "\n").collect();
    let config = read_with(&all, &[]).expect("the example with everything uncommented");
    assert!(config.nats.url.is_some() && config.store.is_some() && !config.tokens.is_empty());
}

#[test]
fn no_file_and_no_variables_is_a_configuration() {
    let config = read_with("", &[]).expect("defaults");
    assert_eq!(config.listen.to_string(), "127.0.0.1:7070");
}

#[test]
fn an_unknown_key_is_refused_by_name_and_line() {
    check_refused("grace = '5s'\nlissten = 1\n", &[], &["spool.toml", "lissten", "line 2", "listen"]);
    check_refused("[gateway]\nmax_uplod = '1GiB'\n", &[], &["max_uplod", "line 2"]);
    check_refused("[http]\nport = 1\n", &[], &["port"]);
}

#[test]
fn a_number_without_unit_is_refused_with_an_example() {
    check_refused("grace = 30\n", &[], &["line 1", "\"10m\""]);
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = read_with("grace = '5s'", &[("SPOOL__GRACE", "7s"), ("SPOOL__HTTP__MAX_CONNECTIONS", "9")]);
    let config = config.expect("a configuration");
    assert_eq!((config.grace, config.http.max_connections), (Span::secs(7), 9));
}

#[test]
fn a_variable_that_names_no_key_is_refused_by_its_name() {
    check_refused("", &[("SPOOL__GRASE", "7s")], &["SPOOL__GRASE", "grase"]);
    check_refused("", &[("SPOOL__GRACE__X", "7s")], &["SPOOL__GRACE__X"]);
    check_refused("grace = '1s'", &[("SPOOL__GRACE__X", "7s")], &["SPOOL__GRACE__X: grace is a setting"]);
    check_refused("", &[("SPOOL____", "7s")], &["SPOOL____ names no setting"]);
}

#[test]
fn what_no_type_says_is_refused_too() {
    check_refused("[nats]\nreplicas = 2", &[], &["nats.replicas is 2; it can be 1, 3 or 5"]);
    check_refused("[nats.passwords]\nchef = 'x'", &[], &["nats.passwords.chef: there is no such user"]);
    check_refused("", &[("SPOOL__NATS__PASSWORDS__ADMIN", "")], &["nats.passwords.admin is empty"]);
    check_refused("tokens = ['short']", &[], &["at least 16 characters"]);
    check_refused("[http]\nmax_connections = 0", &[], &["max_connections is 0"]);
    check_refused("[gateway]\nmax_transfers = 0", &[], &["gateway.max_transfers is 0"]);
    check_refused("[gateway]\nidle_timeout = '0s'", &[], &["gateway.idle_timeout is 0"]);
    check_refused("[projector]\ncache = '1B'", &[], &["projector.cache is 1B; it can be 1MiB or more"]);
    check_refused("[projector]\npublic_url = 'foo'", &[], &["projector.public_url is \"foo\""]);
    #[cfg(feature = "transcoder")]
    for (setting, words) in [
        ("sound_workers = 0", "transcoder.sound_workers is 0"),
        ("child_memory = '1MiB'", "it can be 256MiB or more"),
        ("child_stall = '0s'", "transcoder.child_stall is 0s; it can be 1s or more"),
    ] {
        check_refused(&format!("[transcoder]\n{setting}"), &[], &[words]);
    }
    for piece in ["0B", "1KiB", "1TiB"] {
        let words = [&format!("gateway.piece is {piece}") as &str, "64KiB to 256MiB"];
        check_refused(&format!("[gateway]\npiece = \"{piece}\""), &[], &words);
    }
}

#[test]
fn another_address_than_loopback_needs_tokens() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 7070));
    let open = read_with("", &[]).expect("a configuration");
    let refusal = open.may_listen(everywhere).expect_err("no tokens");
    assert!(refusal.sentence.contains("the setting `tokens` is missing"), "{}", refusal.sentence);
    open.may_listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("loopback");
    let guarded = read_with("tokens = ['0123456789abcdef']", &[]).expect("a configuration");
    guarded.may_listen(everywhere).expect("tokens");
}

#[test]
fn a_secret_is_shown_nowhere() {
    let config = read_with("tokens = ['0123456789abcdef']\n[nats.passwords]\nadmin = 'hush'", &[]).expect("fine");
    let shown = format!("{config:?}");
    assert!(!shown.contains("hush") && !shown.contains("0123456789abcdef"), "{shown}");
}
