//! The trail as a whole, on a real file system and without an agent around it: written here, and
//! verified by what knows only its public key.

mod care;
mod folder;
mod model;
mod past;
mod rig;
mod shred;
