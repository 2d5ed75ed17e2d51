//! The OEM side: keys, pack, release, bundle and serve.
