//! What a fuzzer runs on the codecs.

use super::{Request, Response};

/// Parses `data` as a request and as a response; whatever parses must be written back, and parse to
/// the same value again.
///
/// # Panics
/// When that does not hold.
pub fn service(data: &[u8]) {
    // The one thing that a value forgets is the reserved nibble of lengthFormatIdentifier.
    let mut out = [0; 4200];
    let data = data.get(..out.len()).unwrap_or(data);
    if let Ok(request) = Request::parse(data) {
        let len = request.write(&mut out).unwrap_or(0);
        assert_eq!(out.get(..len), Some(data), "{request:?}");
        assert_eq!(Request::parse(out.get(..len).unwrap_or(&[])), Ok(request));
    }
    if let Ok(response) = Response::parse(data) {
        let len = response.write(&mut out).unwrap_or(0);
        assert_eq!(len, data.len(), "{response:?}");
        assert_eq!(Response::parse(out.get(..len).unwrap_or(&[])), Ok(response));
    }
}
