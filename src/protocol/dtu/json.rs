//! Registration packages that are a JSON object with the SN in it: `{"sn":"…"}`.

use super::recogniser::RegistrationError;

/// The longest object that is waited for, bytes.
pub(super) const JSON_LEN_MAX: usize = 512;
/// Keys that hold the SN, the most telling first.
const KEYS: [&str; 12] = [
    "sn",
    "deviceid",
    "device_id",
    "dtuid",
    "dtu_id",
    "imei",
    "iccid",
    "mac",
    "clientid",
    "id",
    "device",
    "dtu",
];

/// The length of the object at the front; none while it is open.
pub(super) fn object_len(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'{') => depth += 1,
            (false, b'}') => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The SN text of a whole object.
///
/// # Errors
/// [`RegistrationError::Json`] when it does not read or has none of the keys.
pub(super) fn sn_of(object: &[u8]) -> Result<String, RegistrationError> {
    let map: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(object).map_err(|_| RegistrationError::Json("it does not read"))?;
    let value = KEYS
        .iter()
        .find_map(|key| map.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)))
        .map(|(_, value)| value)
        .ok_or(RegistrationError::Json(
            "it has no key sn, id, imei, iccid, mac or deviceId",
        ))?;
    match value {
        serde_json::Value::String(text) => Ok(text.clone()),
        serde_json::Value::Number(number) if number.is_u64() => Ok(number.to_string()),
        _ => Err(RegistrationError::Json("its sn is neither text nor a whole number")),
    }
}
