//! What each wrong file is told, word by word.
