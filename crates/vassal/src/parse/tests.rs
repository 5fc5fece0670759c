//! What each vassal file is told, word by word.
