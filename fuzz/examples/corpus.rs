//! Writes the seeds into `corpus/<target>/`, beside what fuzzing found.

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    for (target, _) in bristlecone_fuzz::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        for (number, seed) in bristlecone_fuzz::seeds(target).iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
