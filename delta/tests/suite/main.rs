//! Stores as a whole, on the simulated disk: pages against maps, recovery after every stop, damage to every byte.

#[cfg(test)]
mod common;
#[cfg(test)]
mod compaction;
#[cfg(test)]
mod corruption;
#[cfg(test)]
mod format_doc;
#[cfg(test)]
mod large;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod recovery;
