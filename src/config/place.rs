//! Where a key of the configuration was set: the environment variable or the line of the file.

use super::DEFAULT_TOML;
use std::collections::BTreeMap;

/// What the configuration was made of besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Source {
    pub(super) file: Option<(String, String)>,
    pub(super) variables: BTreeMap<String, String>,
}

impl Source {
    /// Puts its place in front of a fault of the form `key: what`; a key that nobody set stands for itself.
    pub fn placed(&self, fault: String) -> String {
        let key = fault.split([':', ' ']).next().unwrap_or_default();
        match self.place(key) {
            Some(place) => format!("{place}: {fault}"),
            None => fault,
        }
    }

    /// Whether somebody wants this key to be as it is: by a variable, or by a line of the file that says other than the
    /// defaults do (a copy of config/default.toml wants nothing).
    pub fn sets(&self, section: &str, key: &str) -> bool {
        let said = |text: &str| {
            let table = text.parse::<toml::Table>().ok()?;
            table.get(section)?.as_table()?.get(key).cloned()
        };
        let own = self.file.as_ref().and_then(|(_, text)| said(text));
        self.variables.contains_key(&format!("{section}.{key}")) || (own.is_some() && own != said(DEFAULT_TOML))
    }

    /// `environment variable NAME` or `FILE:LINE`, whichever set the key last.
    pub fn place(&self, key: &str) -> Option<String> {
        if let Some(name) = self.variables.get(key) {
            return Some(format!("environment variable {name}"));
        }
        let (name, text) = self.file.as_ref()?;
        line_of(text, key).map(|line| format!("{name}:{line}"))
    }
}

/// The line of a dotted key in TOML text, from 1: `section.key`, `section[2].key` of a list of tables, or `section`.
/// Where the key itself is not there, the line of its section.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    // a key may stand in a section within a section: `notify.email.host`
    let (section, last) = key
        .rsplit_once('.')
        .map_or((key, None), |(section, last)| (section, Some(last)));
    let (section, wanted) = match section.split_once('[') {
        Some((section, index)) => (section, index.trim_end_matches(']').parse::<usize>().unwrap_or(0)),
        None => (section, 0),
    };
    let (mut inside, mut seen, mut header_line) = (false, 0_usize, None);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let key_of_line = line.split('=').next().unwrap_or_default().trim();
        if let Some(header) = line.strip_prefix('[') {
            let name = header.trim_start_matches('[').split(']').next().unwrap_or_default();
            inside = name.trim() == section && seen == wanted;
            seen += usize::from(name.trim() == section);
            if inside {
                header_line = Some(index + 1);
            }
        } else if (inside && last == Some(key_of_line))
            || (header_line.is_none() && seen == 0 && (key_of_line == section || key_of_line == key))
        {
            return Some(index + 1);
        }
    }
    header_line
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "top = 1\n[http]\nbind = \"a\"\n\n[[listener]]\nbind = \"b\"\n[[listener]]\n# note\nbind = \"c\"\n[log]\n";

    #[test]
    fn keys_are_found_in_their_section_only() {
        assert_eq!(line_of(TEXT, "http.bind"), Some(3));
        assert_eq!(line_of(TEXT, "listener[0].bind"), Some(6));
        assert_eq!(line_of(TEXT, "listener[1].bind"), Some(9));
        assert_eq!(line_of(TEXT, "listener[1].profile"), Some(7));
        assert_eq!(line_of(TEXT, "listener[2].bind"), None);
        assert_eq!(line_of(TEXT, "log"), Some(10));
        assert_eq!(line_of(TEXT, "top"), Some(1));
        assert_eq!(line_of(TEXT, "data.folder"), None);
        assert_eq!(line_of("http.bind = 3\n", "http.bind"), Some(1));
        let nested = "[notify]\nkey = 1\n[notify.email]\nhost = 2\n";
        assert_eq!(line_of(nested, "notify.email.host"), Some(4));
        assert_eq!(line_of(nested, "notify.key"), Some(2));
    }

    #[test]
    fn what_was_set_is_told_from_what_is_so_by_default() {
        let mut source = Source {
            file: Some(("own.toml".into(), "[log]\nformat = \"json\"\n".into())),
            variables: BTreeMap::new(),
        };
        assert!(source.sets("log", "format"));
        assert!(!source.sets("log", "filter") && !source.sets("http", "format"));
        source.file = Some(("copy.toml".into(), DEFAULT_TOML.into()));
        assert!(!source.sets("log", "filter") && !source.sets("log", "format"));
        source
            .variables
            .insert("log.filter".into(), "POLYPHASE__LOG__FILTER".into());
        assert!(source.sets("log", "filter"));
    }

    #[test]
    fn the_environment_is_named_before_the_file() {
        let mut source = Source {
            file: Some(("own.toml".into(), TEXT.into())),
            variables: BTreeMap::new(),
        };
        assert_eq!(source.placed("http.bind: wrong".into()), "own.toml:3: http.bind: wrong");
        assert_eq!(source.placed("data.folder: wrong".into()), "data.folder: wrong");
        source
            .variables
            .insert("http.bind".into(), "POLYPHASE__HTTP__BIND".into());
        assert_eq!(
            source.place("http.bind").unwrap(),
            "environment variable POLYPHASE__HTTP__BIND"
        );
    }
}
