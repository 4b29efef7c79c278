//! Signing keys from the environment, which nothing else reads, or from whatever holds the same
//! variables.

use std::ffi::OsString;

use super::{Problem, SigningKeyError, SigningKeys};

const CURRENT: &str = "QSTASH_CURRENT_SIGNING_KEY";
const NEXT: &str = "QSTASH_NEXT_SIGNING_KEY";
const DEV: &str = "QSTASH_DEV";
const REGION: &str = "QSTASH_REGION";

/// The regions that QStash has. A lookup can't be listed, so it is asked for these.
const REGIONS: [&str; 2] = ["EU_CENTRAL_1", "US_EAST_1"];

impl SigningKeys {
    /// Reads the keys from the environment variables `QSTASH_CURRENT_SIGNING_KEY` and
    /// `QSTASH_NEXT_SIGNING_KEY`.
    ///
    /// If `QSTASH_REGION` is set, which means that an account is moving between regions, the pairs of
    /// all regions are joined: `US_EAST_1_QSTASH_CURRENT_SIGNING_KEY`,
    /// `US_EAST_1_QSTASH_NEXT_SIGNING_KEY`, `EU_CENTRAL_1_…` and so on. The plain pair may then be
    /// missing. A delivery may be signed with any of the keys; its `Upstash-Region` header is not
    /// signed and decides nothing. Labels are `current`, `next`, `US_EAST_1 current`, and so on.
    ///
    /// `QSTASH_DEV=true` makes the official SDK for TypeScript accept the local development server's
    /// published keys, even if real keys are set. This crate accepts them only where the code says so:
    /// with `QSTASH_DEV` set, this function returns an error that names
    /// [`dangerous_development_server`](Self::dangerous_development_server). Real keys don't silence the
    /// error, because the variables then contradict each other. Empty, `false` and `0` count as unset.
    ///
    /// ```no_run
    /// use tower_qstash::{SigningKeyError, SigningKeys};
    ///
    /// fn signing_keys() -> Result<SigningKeys, SigningKeyError> {
    ///     if cfg!(debug_assertions) && std::env::var("QSTASH_DEV").is_ok_and(|dev| dev == "true") {
    ///         return Ok(SigningKeys::dangerous_development_server());
    ///     }
    ///     SigningKeys::from_env()
    /// }
    /// ```
    ///
    /// On `wasm32-unknown-unknown`, as in a Cloudflare Worker, there is no environment: use
    /// [`from_lookup`](Self::from_lookup).
    ///
    /// # Errors
    ///
    /// - `QSTASH_DEV=true`, or any other value but an empty one, `false` and `0`;
    /// - a variable that is missing or not UTF-8, or that holds what [`new`](Self::new) refuses, such as
    ///   an empty, quoted or published key. Either both keys of a region must be set or neither;
    /// - a platform without an environment.
    pub fn from_env() -> Result<Self, SigningKeyError> {
        // There `std::env::vars_os` panics.
        if cfg!(all(target_family = "wasm", target_os = "unknown")) {
            return Err(SigningKeyError { name: CURRENT.into(), problem: Problem::NoEnvironment });
        }
        Self::from_variables(variables())
    }

    /// Reads the variables of [`from_env`](Self::from_env) from whatever holds them: the secrets of
    /// a Cloudflare Worker, a parameter store, files of mounted secrets.
    ///
    /// `lookup` returns a variable's value, or `None` if it is not set. It is asked for
    /// `QSTASH_REGION`, and if that is set, also for the pairs of the regions `US_EAST_1`,
    /// `EU_CENTRAL_1` and the one that `QSTASH_REGION` names. `QSTASH_DEV` is an error here too.
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use tower_qstash::SigningKeys;
    ///
    /// // Fetched from a parameter store.
    /// let parameters = HashMap::from([
    ///     ("/prod/QSTASH_CURRENT_SIGNING_KEY".to_owned(), "sig_current".to_owned()),
    ///     ("/prod/QSTASH_NEXT_SIGNING_KEY".to_owned(), "sig_next".to_owned()),
    /// ]);
    /// let keys = SigningKeys::from_lookup(|name| parameters.get(&format!("/prod/{name}")).cloned())?;
    /// # Ok::<(), tower_qstash::SigningKeyError>(())
    /// ```
    ///
    /// In a Cloudflare Worker:
    /// `SigningKeys::from_lookup(|name| Some(env.secret(name).ok()?.to_string()))`.
    ///
    /// # Errors
    ///
    /// A variable that the lookup doesn't return, or that holds what [`new`](Self::new) refuses, such
    /// as a line break at the end of a secret's file. It must return both keys of a region or neither.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SigningKeyError> {
        let mut regions = Vec::new();
        if let Some(named) = lookup(REGION).filter(|region| !region.is_empty()) {
            let named = named.to_ascii_uppercase().replace('-', "_");
            regions.extend(is_region(&named).then_some(named));
            regions.extend(REGIONS.map(str::to_owned));
            regions.retain(|region| {
                [CURRENT, NEXT].iter().any(|key| lookup(&format!("{region}_{key}")).is_some())
            });
        }
        Self::from_regions(regions, |name| lookup(name).ok_or(Problem::NotFound))
    }

    fn from_variables(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SigningKeyError> {
        let variables: Vec<_> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        let get = |name: &str| {
            let found = variables.iter().find(|(set, _)| set == name);
            let (_, value) = found.ok_or(Problem::Missing)?;
            value.to_str().map(str::to_owned).ok_or(Problem::NotUnicode)
        };
        let mut regions = Vec::new();
        if get(REGION) != Err(Problem::Missing) && get(REGION).as_deref() != Ok("") {
            let named = variables.iter().filter_map(|(name, _)| region(name));
            regions.extend(named.map(str::to_owned));
        }
        Self::from_regions(regions, get)
    }

    /// Joins the plain pair, unless only regions have one, and the pairs of these regions.
    fn from_regions(
        mut regions: Vec<String>,
        get: impl Fn(&str) -> Result<String, Problem>,
    ) -> Result<Self, SigningKeyError> {
        let is_off = |dev: &str| ["", "false", "0"].contains(&dev);
        match get(DEV) {
            Err(Problem::Missing | Problem::NotFound) => {}
            Ok(dev) if is_off(&dev) => {}
            _ => {
                let problem = Problem::DevelopmentMode;
                return Err(SigningKeyError { name: DEV.into(), problem });
            }
        }
        regions.sort_unstable();
        regions.dedup();
        let mut prefixes: Vec<_> = regions.iter().map(|region| format!("{region}_")).collect();
        let is_set = |name: &&str| !matches!(get(name), Err(Problem::Missing | Problem::NotFound));
        if prefixes.is_empty() || [CURRENT, NEXT].iter().any(is_set) {
            prefixes.insert(0, String::new());
        }
        let mut pairs = prefixes.iter().map(|prefix| pair(prefix, &get));
        let first = pairs.next().expect("`prefixes` has the plain one where it has no region's");
        pairs.try_fold(first?, |keys, more| Ok(keys.also(more?)))
    }
}

/// Reads the pair in the two variables with this prefix, such as `US_EAST_1_`.
fn pair(
    prefix: &str,
    get: impl Fn(&str) -> Result<String, Problem>,
) -> Result<SigningKeys, SigningKeyError> {
    let names = [CURRENT, NEXT].map(|name| format!("{prefix}{name}"));
    let read = |name: &String| {
        get(name).map_err(|problem| SigningKeyError { name: name.clone(), problem })
    };
    let [current, next] = &names;
    let keys = SigningKeys::from_pair([current, next], [&*read(current)?, &*read(next)?])?;
    match prefix.strip_suffix('_') {
        Some(region) => keys.with_label(region),
        None => Ok(keys),
    }
}

/// Returns `US_EAST_1` for `US_EAST_1_QSTASH_CURRENT_SIGNING_KEY`.
fn region(variable: &str) -> Option<&str> {
    [CURRENT, NEXT]
        .iter()
        .find_map(|key| variable.strip_suffix(key)?.strip_suffix('_'))
        .filter(|region| is_region(region))
}

/// A prefix without the form of a region, such as `STAGING`, belongs to some other program.
fn is_region(text: &str) -> bool {
    let words = |text: &str| {
        text.contains('_') && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.rsplit_once('_').is_some_and(|(area, number)| words(area) && digits(number))
}

#[expect(clippy::disallowed_methods, reason = "nothing else reads the environment")]
fn variables() -> std::env::VarsOs {
    std::env::vars_os()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<SigningKeys, SigningKeyError> {
        SigningKeys::from_variables(
            variables.iter().map(|&(name, value)| (name.into(), value.into())),
        )
    }

    fn from_lookup(variables: &[(&str, &str)]) -> Result<SigningKeys, SigningKeyError> {
        SigningKeys::from_lookup(|name| {
            let mut found = variables.iter().filter(|(set, _)| *set == name);
            found.next().map(|&(_, value)| value.to_owned())
        })
    }

    fn refused(variables: &[(&str, &str)]) -> (String, Problem) {
        let SigningKeyError { name, problem } = from(variables).unwrap_err();
        (name, problem)
    }

    const PAIR: [(&str, &str); 2] = [(CURRENT, "sig_a"), (NEXT, "sig_b")];

    #[test]
    fn both_variables_are_read() {
        assert_eq!(format!("{:?}", from(&PAIR).unwrap()), r#"SigningKeys["current", "next"]"#);
    }

    #[test]
    fn an_invalid_variable_is_named_with_its_problem() {
        let missing = |name: &str| (name.to_owned(), Problem::Missing);
        assert_eq!(refused(&[]), missing(CURRENT));
        assert_eq!(refused(&[(CURRENT, "sig_a")]), missing(NEXT));
        assert_eq!(refused(&[(NEXT, "sig_b")]), missing(CURRENT));
        for (value, problem) in [
            ("", Problem::Empty),
            ("sig_b\n", Problem::WhiteSpace),
            ("\"sig_b\"", Problem::Quoted),
            ("sig_b'", Problem::Quoted),
            ("sig_7kYjw48mhY7kAjqNGcy6cr29RJ6r", Problem::Development),
        ] {
            assert_eq!(refused(&[(CURRENT, value), (NEXT, "sig_b")]), (CURRENT.into(), problem));
            assert_eq!(refused(&[(CURRENT, "sig_a"), (NEXT, value)]), (NEXT.into(), problem));
        }
        let text = from(&[]).unwrap_err().to_string();
        assert_eq!(
            text,
            "the environment variable QSTASH_CURRENT_SIGNING_KEY is not set; \
             set it to the signing key that the QStash console shows"
        );
    }

    #[test]
    fn development_mode_is_an_error_with_and_without_keys() {
        for on in ["true", "1", "TRUE", "yes", " "] {
            for keys in [&PAIR[..], &[]] {
                let error = (DEV.to_owned(), Problem::DevelopmentMode);
                assert_eq!(refused(&[keys, &[(DEV, on)]].concat()), error, "{on}");
            }
        }
        for off in ["", "false", "0"] {
            assert!(from(&[&PAIR[..], &[(DEV, off)]].concat()).is_ok(), "{off}");
            assert_eq!(refused(&[(DEV, off)]), (CURRENT.into(), Problem::Missing), "{off}");
        }
        assert_eq!(
            from(&[(DEV, "true")]).unwrap_err().to_string(),
            "the environment variable QSTASH_DEV asks for the local development server's published keys, with which \
             anyone can sign; call SigningKeys::dangerous_development_server() for them, or unset it"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_unicode_is_refused() {
        use std::os::unix::ffi::OsStringExt;
        let invalid = OsString::from_vec(b"sig_\xFF".to_vec());
        let variables = [
            (CURRENT.into(), invalid.clone()),
            (NEXT.into(), "sig_b".into()),
            (invalid.clone(), invalid),
        ];
        let error = SigningKeys::from_variables(variables).unwrap_err();
        assert_eq!((error.name.as_str(), error.problem), (CURRENT, Problem::NotUnicode));
    }

    #[test]
    fn a_migration_joins_the_pairs_of_all_regions() {
        let regions = [
            ("US_EAST_1_QSTASH_CURRENT_SIGNING_KEY", "sig_c"),
            ("US_EAST_1_QSTASH_NEXT_SIGNING_KEY", "sig_d"),
            ("EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY", "sig_f"),
            ("EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY", "sig_e"),
            // Another program's: not the form of a region.
            ("STAGING_QSTASH_CURRENT_SIGNING_KEY", ""),
            ("MY_APP_QSTASH_CURRENT_SIGNING_KEY", ""),
            ("QSTASH_1_QSTASH_CURRENT_SIGNING_KEY", ""),
            ("US_EAST_1QSTASH_CURRENT_SIGNING_KEY", ""),
            ("US_EAST_X_QSTASH_CURRENT_SIGNING_KEY", ""),
            ("US_EAST__QSTASH_CURRENT_SIGNING_KEY", ""),
        ];
        let all = [&PAIR[..], &regions].concat();
        assert_eq!(format!("{:?}", from(&all).unwrap()), r#"SigningKeys["current", "next"]"#);
        let migrating = [&all[..], &[("QSTASH_REGION", "US_EAST_1")]].concat();
        let labels = [
            "current",
            "next",
            "EU_CENTRAL_1 current",
            "EU_CENTRAL_1 next",
            "US_EAST_1 current",
            "US_EAST_1 next",
        ];
        assert_eq!(format!("{:?}", from(&migrating).unwrap()), format!("SigningKeys{labels:?}"));
        let no_region = [&all[..], &[("QSTASH_REGION", "")]].concat();
        assert_eq!(format!("{:?}", from(&no_region).unwrap()), r#"SigningKeys["current", "next"]"#);

        let half = [&PAIR[..], &regions[..1], &[("QSTASH_REGION", "US_EAST_1")]].concat();
        let name = "US_EAST_1_QSTASH_NEXT_SIGNING_KEY".to_owned();
        assert_eq!(refused(&half), (name, Problem::Missing));
    }

    /// As in the official SDK for TypeScript.
    #[test]
    fn a_migration_needs_no_plain_pair() {
        let region = [
            ("QSTASH_REGION", "US_EAST_1"),
            ("US_EAST_1_QSTASH_CURRENT_SIGNING_KEY", "sig_c"),
            ("US_EAST_1_QSTASH_NEXT_SIGNING_KEY", "sig_d"),
        ];
        assert_eq!(
            format!("{:?}", from(&region).unwrap()),
            r#"SigningKeys["US_EAST_1 current", "US_EAST_1 next"]"#
        );
        let half_a_plain_pair = [&region[..], &PAIR[..1]].concat();
        assert_eq!(refused(&half_a_plain_pair), (NEXT.into(), Problem::Missing));
        assert_eq!(refused(&region[..1]), (CURRENT.into(), Problem::Missing));
        assert_eq!(refused(&region[1..]), (CURRENT.into(), Problem::Missing));
    }

    #[test]
    fn lookup_reads_the_plain_pair() {
        assert_eq!(
            format!("{:?}", from_lookup(&PAIR).unwrap()),
            r#"SigningKeys["current", "next"]"#
        );
    }

    #[test]
    fn lookup_error_names_the_variable_and_the_problem() {
        for (missing, present) in [(CURRENT, PAIR[1]), (NEXT, PAIR[0])] {
            let error = from_lookup(&[present]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "the lookup returned no {missing}; set it to the signing key that the QStash console shows"
                )
            );
        }
        let error = from_lookup(&[(CURRENT, "sig_a\n"), PAIR[1]]).unwrap_err();
        assert_eq!((error.name(), error.problem), (CURRENT, Problem::WhiteSpace));
    }

    #[test]
    fn lookup_reads_regions_only_where_a_region_is_set() {
        let regions = [
            ("US_EAST_1_QSTASH_CURRENT_SIGNING_KEY", "sig_c"),
            ("US_EAST_1_QSTASH_NEXT_SIGNING_KEY", "sig_d"),
            ("EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY", "sig_e"),
            ("EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY", "sig_f"),
            ("AP_SOUTH_1_QSTASH_CURRENT_SIGNING_KEY", "sig_g"),
            ("AP_SOUTH_1_QSTASH_NEXT_SIGNING_KEY", "sig_h"),
        ];
        let all = [&PAIR[..], &regions].concat();
        let labels = |region: &str| {
            let variables = [&all[..], &[("QSTASH_REGION", region)]].concat();
            format!("{:?}", from_lookup(&variables).unwrap())
        };
        let plain = ["current", "next"];
        let known =
            ["EU_CENTRAL_1 current", "EU_CENTRAL_1 next", "US_EAST_1 current", "US_EAST_1 next"];
        let new = ["AP_SOUTH_1 current", "AP_SOUTH_1 next"];
        assert_eq!(format!("{:?}", from_lookup(&all).unwrap()), format!("SigningKeys{plain:?}"));
        assert_eq!(labels(""), format!("SigningKeys{plain:?}"));
        let plain_and_known = [&plain[..], &known].concat();
        for region in ["US_EAST_1", "us-east-1", "EU_CENTRAL_1", "1"] {
            assert_eq!(labels(region), format!("SigningKeys{plain_and_known:?}"), "{region}");
        }
        for region in ["AP_SOUTH_1", "ap-south-1"] {
            let labels_of_all = [&plain[..], &new, &known].concat();
            assert_eq!(labels(region), format!("SigningKeys{labels_of_all:?}"), "{region}");
        }
    }

    #[test]
    fn lookup_without_the_plain_pair_reads_the_regions() {
        let region = [
            ("QSTASH_REGION", "US_EAST_1"),
            ("EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY", "sig_c"),
            ("EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY", "sig_d"),
        ];
        assert_eq!(
            format!("{:?}", from_lookup(&region).unwrap()),
            r#"SigningKeys["EU_CENTRAL_1 current", "EU_CENTRAL_1 next"]"#
        );
        let not_found = |variables: &[(&str, &str)]| {
            let SigningKeyError { name, problem } = from_lookup(variables).unwrap_err();
            assert_eq!(problem, Problem::NotFound);
            name
        };
        assert_eq!(not_found(&region[..1]), CURRENT);
        assert_eq!(not_found(&region[1..]), CURRENT);
        assert_eq!(not_found(&region[..2]), "EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY");
        assert_eq!(not_found(&[region[0], region[2]]), "EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY");
        assert_eq!(not_found(&[&region[..], &PAIR[..1]].concat()), NEXT);
    }
}
