//! Problems: every refusal as `application/problem+json` (RFC 9457), from one list of types.
//!
//! `type` is `/problems/NAME`, stable, served by this server and explained in `docs/API.md`. What broke inside is
//! logged, never shown.

use super::edge;
use crate::port::scope::StoreError;
use crate::telemetry::api::RequestFailed;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

/// One wrong thing in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Fault {
    /// The field at fault: a path such as `connect.address`, or a query parameter.
    #[schema(example = "connect.address")]
    pub field: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

/// A problem as clients see it (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Problem {
    /// The stable name of the kind of problem, e.g. `/problems/not-found`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here.
    pub detail: String,
    /// The first field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Every field at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
    /// A name for the reason, from a closed list, where the kind has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The request's id, as in the log and in `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

macro_rules! kinds {
    ($($variant:ident $slug:literal $status:ident $title:literal $about:literal;)*) => {
        /// The kinds of problems.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = $about] $variant,)*
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];

            /// The last part of `type`.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$variant => $slug,)* }
            }

            /// The status it is answered with.
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// The kind in words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What it means and what to do.
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)* }
            }
        }
    };
}

kinds! {
    BadQuery "bad-query" BAD_REQUEST "Wrong query parameter" "A query parameter is unknown or has a wrong value; `field` names it.";
    BadJson "bad-json" BAD_REQUEST "Body is not JSON" "The body is not well-formed JSON; `detail` has line and column.";
    Invalid "invalid" UNPROCESSABLE_ENTITY "Wrong value" "The JSON has a wrong, missing or unknown field; `errors` lists every one found with its path.";
    BadHeader "bad-header" BAD_REQUEST "Wrong header" "A request header has a wrong value; `field` names it.";
    AccountRequired "account-required" BAD_REQUEST "Account required" "This works within one account: add `?account=ID`.";
    Unauthenticated "unauthenticated" UNAUTHORIZED "Sign in first" "No valid key or session came with the request. Send `Authorization: Bearer KEY`.";
    WrongCredentials "wrong-credentials" UNAUTHORIZED "Wrong e-mail address or password" "Sign-in was refused. Whether the address exists is not told.";
    CodeRequired "code-required" UNAUTHORIZED "Second factor required" "The password is right. Send the same again with `code`; `reason` is `missing` or `wrong`.";
    SecondFactorRequired "second-factor-required" FORBIDDEN "Enrol a second factor" "People with this role need a second factor. Until one is enrolled (`POST /session/second-factor`) the session does nothing else.";
    Forbidden "forbidden" FORBIDDEN "Not allowed" "The caller's roles, or the key's scopes (`reason` is `scope` then), do not allow this operation.";
    CrossSite "cross-site" FORBIDDEN "Cross-site request refused" "With cookie authentication a change needs the header `X-Requested-With` or an `Origin` of this server.";
    ClaimRefused "claim-refused" FORBIDDEN "Claim refused" "The serial number cannot be claimed by this caller or with this code.";
    NotFound "not-found" NOT_FOUND "Not found" "There is no such object in the caller's account, or no such route.";
    MethodNotAllowed "method-not-allowed" METHOD_NOT_ALLOWED "Method not allowed" "The route exists, but not with this method; `Allow` lists those it has.";
    TimedOut "timed-out" REQUEST_TIMEOUT "Request too slow" "The body did not arrive in time.";
    Conflict "conflict" CONFLICT "Conflict" "The request clashes with something that exists; `field` names what to change.";
    Stale "stale" PRECONDITION_FAILED "Changed meanwhile" "`If-Match` names another version than the object has; read it again and decide anew.";
    PreconditionRequired "precondition-required" PRECONDITION_REQUIRED "If-Match required" "A PATCH needs `If-Match` with the ETag of the version it was made from (or `*`).";
    TooLarge "too-large" PAYLOAD_TOO_LARGE "Body too large" "The body is larger than this server takes.";
    UnsupportedMedia "unsupported-media" UNSUPPORTED_MEDIA_TYPE "Body of another type expected" "The body must have `Content-Type: application/json`; a file to import is `text/csv` or XLSX.";
    IdempotencyMismatch "idempotency-mismatch" UNPROCESSABLE_ENTITY "Idempotency key used before" "The same `Idempotency-Key` came before with another body.";
    TooManyRequests "too-many-requests" TOO_MANY_REQUESTS "Too many requests" "Try again after the seconds in `Retry-After`.";
    ReadFailed "read-failed" BAD_GATEWAY "The meter could not be read" "`reason` is the slot ledger's name for it; `detail` says more.";
    NotSupported "not-supported" UNPROCESSABLE_ENTITY "The meter cannot do this" "The meter's model has no known way to do it; nothing was made.";
    EmergencyStop "emergency-stop" CONFLICT "Emergency stop" "An emergency stop is in force: no command is taken until somebody ends it.";
    ControlDisabled "control-disabled" FORBIDDEN "Control is switched off" "`[control] enabled = false` in the server's configuration.";
    Busy "busy" SERVICE_UNAVAILABLE "Busy" "A bounded queue is full; try again after the seconds in `Retry-After`.";
    DatabaseAway "database-away" SERVICE_UNAVAILABLE "Database not available" "Nothing was changed, unless `detail` says that the request was cut off under way. `reason` is `absent`, `hung`, `full` or `crowded`. Polling goes on into the spool; try again later.";
    Internal "internal" INTERNAL_SERVER_ERROR "Fault of the server" "The log has more under the request's id.";
}

/// The one error type of handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    kind: Kind,
    detail: String,
    faults: Vec<Fault>,
    reason: Option<String>,
    retry_after_s: Option<u64>,
    allow: Option<String>,
}

impl ApiError {
    /// A problem of this kind; `detail` says what happened here.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            faults: Vec::new(),
            reason: None,
            retry_after_s: None,
            allow: None,
        }
    }

    /// One wrong field of the body.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of_faults(
            Kind::Invalid,
            vec![Fault {
                field: field.into(),
                message: message.into(),
            }],
        )
    }

    /// One wrong query parameter.
    pub fn bad_query(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of_faults(
            Kind::BadQuery,
            vec![Fault {
                field: field.into(),
                message: message.into(),
            }],
        )
    }

    /// No such object (of the caller).
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no such {what}"))
    }

    /// A problem with its faults.
    pub fn of_faults(kind: Kind, faults: Vec<Fault>) -> Self {
        let detail = faults
            .iter()
            .map(|fault| {
                if fault.field.is_empty() {
                    fault.message.clone()
                } else {
                    format!("{}: {}", fault.field, fault.message)
                }
            })
            .collect::<Vec<_>>()
            .join("; ");
        Self {
            faults: faults.into_iter().filter(|fault| !fault.field.is_empty()).collect(),
            ..Self::new(kind, detail)
        }
    }

    /// Adds the field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        let message = self.detail.clone();
        self.faults.push(Fault {
            field: field.into(),
            message,
        });
        self
    }

    /// Adds the name of the reason.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Adds `Retry-After`, seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// Adds `Allow`.
    #[must_use]
    pub(super) fn allow(mut self, methods: String) -> Self {
        self.allow = Some(methods);
        self
    }

    /// Without its faults of these fields.
    #[must_use]
    pub(super) fn without(mut self, fields: &[&str]) -> Self {
        self.faults.retain(|fault| !fields.contains(&fault.field.as_str()));
        self
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its faults.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind.slug(), self.detail)
    }
}

impl std::error::Error for ApiError {}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(what) => Self::not_found(what),
            StoreError::Stale { current } => Self::new(
                Kind::Stale,
                format!("the object was changed meanwhile; its ETag is now \"v{current}\""),
            ),
            StoreError::Conflict { field, message } => {
                let problem = Self::new(Kind::Conflict, message);
                match field {
                    Some(field) => problem.at(field),
                    None => problem,
                }
            }
            StoreError::Invalid { field, message } => Self::invalid(field, message),
            StoreError::Unavailable(cause) => {
                RequestFailed { cause: &cause }.emit();
                Self::new(Kind::DatabaseAway, "the database does not answer; nothing was changed").retry_after(5)
            }
            StoreError::Internal(cause) => {
                RequestFailed { cause: &cause }.emit();
                Self::new(Kind::Internal, "the server failed at this request; its log has more")
            }
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.kind.status()
    }

    fn error_response(&self) -> HttpResponse {
        let problem = Problem {
            kind: format!("/problems/{}", self.kind.slug()),
            title: self.kind.title().to_owned(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone(),
            field: self.faults.first().map(|fault| fault.field.clone()),
            errors: self.faults.clone(),
            reason: self.reason.clone(),
            request_id: edge::request_id(),
        };
        let mut builder = HttpResponse::build(self.kind.status());
        builder.insert_header((
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        ));
        if let Some(seconds) = self.retry_after_s {
            builder.insert_header((header::RETRY_AFTER, seconds));
        }
        if let Some(methods) = &self.allow {
            builder.insert_header((header::ALLOW, methods.as_str()));
        }
        if self.kind.status() == StatusCode::UNAUTHORIZED {
            builder.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"polyphase\""));
        }
        builder.body(serde_json::to_vec(&problem).unwrap_or_default())
    }
}

/// Collects faults, so that a client learns of all of them at once.
#[derive(Debug, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a fault unless `holds`.
    pub fn check(&mut self, holds: bool, field: &str, message: impl Into<String>) {
        if !holds {
            self.0.push(Fault {
                field: field.to_owned(),
                message: message.into(),
            });
        }
    }

    /// Notes the error of a check, or gives its value.
    pub fn take<T, E: std::fmt::Display>(&mut self, field: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.check(false, field, error.to_string())).ok()
    }

    /// A text of 1 to `max` characters without control characters, not blank.
    pub fn text(&mut self, field: &str, text: &str, max: usize) {
        let length = text.chars().count();
        self.check(
            !text.trim().is_empty() && length <= max,
            field,
            format!("must have 1 to {max} characters, this has {length}"),
        );
        self.check(
            !text.chars().any(char::is_control),
            field,
            "must not hold control characters",
        );
    }

    /// Ok when there is none.
    ///
    /// # Errors
    /// A problem of kind `invalid` with all of them.
    pub fn done(self) -> Result<(), ApiError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ApiError::of_faults(Kind::Invalid, self.0))
        }
    }
}
