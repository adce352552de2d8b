//! Reading tar files compressed with zstd: names of at most 100 bytes, regular files.

use std::path::Path;

/// The files in `path` with their names.
pub(crate) fn read(path: &Path) -> Vec<(String, Vec<u8>)> {
    let all = zstd::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    let text = |bytes: &[u8]| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    };
    let (mut files, mut rest) = (Vec::new(), all.as_slice());
    while rest.len() >= 512 && rest[0] != 0 {
        let (header, after) = rest.split_at(512);
        let size = usize::from_str_radix(text(&header[124..136]).trim(), 8).unwrap();
        if header[156] == b'0' {
            let prefix = text(&header[345..500]);
            let name = text(&header[..100]);
            let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            files.push((name, after[..size].to_vec()));
        }
        rest = &after[size.next_multiple_of(512)..];
    }
    files
}
