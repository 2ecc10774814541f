//! Lists: `{"items": […], "next": CURSOR}`. A cursor is opaque, and belongs to the list that gave it.

use super::problem::ApiError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Items a page has when `limit` is not given.
pub const LIMIT_DEFAULT: u32 = 100;
/// The most items of a page.
pub const LIMIT_MAX: u32 = 1000;
const CURSOR_MAX: usize = 1024;

/// A page of a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Hand it back as `cursor` for the next page; null: this is the last.
    pub next: Option<String>,
    /// How many items the filter finds in all, where the list tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// Which page is wanted. `K` is the key of the last item of the page before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest<K> {
    list: &'static str,
    limit: u32,
    /// Items come after this key.
    pub after: Option<K>,
}

#[derive(Serialize, Deserialize)]
struct Cursor<K>(String, K);

impl<K: Serialize + DeserializeOwned> PageRequest<K> {
    /// Checks `limit` and `cursor` of a query. `list` names the list, so that cursors of others are refused.
    ///
    /// # Errors
    /// `bad-query` naming the parameter.
    pub fn new(list: &'static str, limit: Option<u32>, cursor: Option<&str>) -> Result<Self, ApiError> {
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(ApiError::bad_query(
                "limit",
                format!("must be 1 to {LIMIT_MAX}, this is {limit}"),
            ));
        }
        let after = match cursor {
            None => None,
            Some(text) => Some(
                decode(list, text)
                    .ok_or_else(|| ApiError::bad_query("cursor", "is not a `next` value of this list; leave it out"))?,
            ),
        };
        Ok(Self { list, limit, after })
    }

    /// How many rows to fetch: one more than the page has, to know whether there is a next one.
    pub fn fetch(&self) -> u32 {
        self.limit + 1
    }

    /// How many items the page has at most.
    pub fn limit(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }

    /// A page of a list that knows by itself where the next one begins; none: this is the last.
    pub fn page_to<T>(&self, items: Vec<T>, next: Option<K>) -> Page<T> {
        Page {
            items,
            next: next.map(|key| encode(self.list, key)),
            total: None,
        }
    }

    /// The page of a short list that was fetched whole, in the order of its keys.
    pub fn page_of<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> K) -> Page<T>
    where
        K: PartialOrd,
    {
        if let Some(after) = &self.after {
            rows.retain(|row| key(row) > *after);
        }
        self.page(rows, key)
    }

    /// Cuts what was fetched to the page; `key` gives an item's key.
    pub fn page<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> K) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|last| encode(self.list, key(last)));
        Page {
            items: rows,
            next,
            total: None,
        }
    }
}

impl<T> Page<T> {
    /// Adds the total.
    #[must_use]
    pub fn of_total(self, total: u64) -> Self {
        Self {
            total: Some(total),
            ..self
        }
    }

    /// Turns every item into what the API shows.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(f).collect(),
            next: self.next,
            total: self.total,
        }
    }
}

fn encode<K: Serialize>(list: &str, key: K) -> String {
    // a key is a number, a text or a tuple of them: it always serialises
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Cursor(list.to_owned(), key)).unwrap_or_default())
}

fn decode<K: DeserializeOwned>(list: &str, text: &str) -> Option<K> {
    if text.len() > CURSOR_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let Cursor(of, key) = serde_json::from_slice(&bytes).ok()?;
    (of == list).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Walks all pages over `all`, as a client would.
    fn walk(all: &[i64], limit: u32) -> Vec<i64> {
        let mut seen = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let request = PageRequest::<i64>::new("things", Some(limit), cursor.as_deref()).unwrap();
            let rows = all
                .iter()
                .copied()
                .filter(|key| request.after.is_none_or(|after| *key > after))
                .take(request.fetch() as usize)
                .collect();
            let page = request.page(rows, |key| *key);
            assert!(page.items.len() <= limit as usize);
            seen.extend(page.items);
            match page.next {
                Some(next) => cursor = Some(next),
                None => return seen,
            }
        }
    }

    proptest! {
        #[test]
        fn pages_make_up_the_list(mut all in proptest::collection::btree_set(any::<i64>(), 0..50), limit in 1u32..20) {
            let all: Vec<i64> = std::mem::take(&mut all).into_iter().collect();
            prop_assert_eq!(walk(&all, limit), all);
        }

        #[test]
        fn no_text_is_taken_for_a_cursor_by_accident(text in ".{0,80}") {
            prop_assert!(PageRequest::<i64>::new("things", None, Some(&text)).is_err());
        }
    }

    #[test]
    fn a_list_that_was_fetched_whole_is_cut_into_pages() {
        let first = PageRequest::<i64>::new("things", Some(2), None)
            .unwrap()
            .page_of(vec![1, 3, 5], |key| *key);
        assert_eq!(first.items, [1, 3]);
        let next = PageRequest::<i64>::new("things", Some(2), first.next.as_deref()).unwrap();
        let last = next.page_of(vec![1, 3, 4, 5], |key| *key);
        assert_eq!((last.items, last.next), (vec![4, 5], None));
    }

    #[test]
    fn limits_and_foreign_cursors_are_refused() {
        assert!(PageRequest::<i64>::new("things", Some(0), None).is_err());
        assert!(PageRequest::<i64>::new("things", Some(1001), None).is_err());
        let foreign = encode("others", 5i64);
        assert!(PageRequest::<i64>::new("things", None, Some(&foreign)).is_err());
        assert!(PageRequest::<i64>::new("others", None, Some(&foreign)).is_ok());
    }
}
