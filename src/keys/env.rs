//! Signing keys from the environment. Nothing else reads it.

use std::ffi::OsString;

use super::{Problem, SigningKeyError, SigningKeys};

const CURRENT: &str = "QSTASH_CURRENT_SIGNING_KEY";
const NEXT: &str = "QSTASH_NEXT_SIGNING_KEY";
const DEV: &str = "QSTASH_DEV";

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
    /// # Errors
    ///
    /// - `QSTASH_DEV=true`, or any other value but an empty one, `false` and `0`;
    /// - a variable that is missing or not UTF-8, or that holds what [`new`](Self::new) refuses, such as
    ///   an empty, quoted or published key. Either both keys of a region must be set or neither.
    pub fn from_env() -> Result<Self, SigningKeyError> {
        Self::from_variables(variables())
    }

    fn from_variables(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SigningKeyError> {
        let variables: Vec<_> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect();
        let get =
            |name: &str| variables.iter().find(|(set, _)| set == name).map(|(_, value)| value);

        if get(DEV).is_some_and(|dev| !["", "false", "0"].iter().any(|off| dev == off)) {
            return Err(SigningKeyError { name: DEV.into(), problem: Problem::DevelopmentMode });
        }
        let mut prefixes = Vec::new();
        if get("QSTASH_REGION").is_some_and(|region| !region.is_empty()) {
            let regions = variables.iter().filter_map(|(name, _)| region(name));
            prefixes.extend(regions.map(|region| format!("{region}_")));
            prefixes.sort_unstable();
            prefixes.dedup();
        }
        let no_plain_pair = [CURRENT, NEXT].iter().all(|name| get(name).is_none());
        if prefixes.is_empty() || !no_plain_pair {
            prefixes.insert(0, String::new());
        }
        let mut pairs = prefixes.iter().map(|prefix| pair(prefix, get));
        let first = pairs.next().expect("`prefixes` has the plain one where it has no region's");
        pairs.try_fold(first?, |keys, more| Ok(keys.also(more?)))
    }
}

/// Reads the pair in the two variables with this prefix, such as `US_EAST_1_`.
fn pair<'a>(
    prefix: &str,
    get: impl Fn(&str) -> Option<&'a OsString>,
) -> Result<SigningKeys, SigningKeyError> {
    let names = [CURRENT, NEXT].map(|name| format!("{prefix}{name}"));
    let read = |name: &String| {
        let error = |problem| SigningKeyError { name: name.clone(), problem };
        let value = get(name).ok_or_else(|| error(Problem::Missing))?;
        value.to_str().ok_or_else(|| error(Problem::NotUnicode))
    };
    let [current, next] = &names;
    let keys = SigningKeys::from_pair([current, next], [read(current)?, read(next)?])?;
    match prefix.strip_suffix('_') {
        Some(region) => keys.with_label(region),
        None => Ok(keys),
    }
}

/// Returns `US_EAST_1` for `US_EAST_1_QSTASH_CURRENT_SIGNING_KEY`. A prefix without the form of a
/// region, such as `STAGING`, belongs to some other program.
fn region(variable: &str) -> Option<&str> {
    let region =
        [CURRENT, NEXT].iter().find_map(|key| variable.strip_suffix(key)?.strip_suffix('_'))?;
    let (area, number) = region.rsplit_once('_')?;
    let words = |text: &str| {
        text.contains('_') && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (words(area) && digits(number)).then_some(region)
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
}
