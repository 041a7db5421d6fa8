#pragma once

#include <cstddef>
#include <cstdint>

// tests/support/nonsense_module.cpp is a PKCS #11 module that keeps one P-256 key in software and behaves
// well, until it is told not to. It writes only where it was allowed to, and lies otherwise. Tests load it by
// path like any module, and find these by dlsym.
extern "C" {

// How a call deviates: 0 not at all; 1…63 returns an error code (see nonsense_rv); from 64 on it succeeds,
// with nonsense in what it gives.
enum NonsenseKind : std::uint8_t {
  kNonsenseNone = 0,
  kNonsenseWrongBytes = 64,  // one bit of the answer is wrong
  kNonsenseShort = 65,       // the answer is shorter than it should be
  kNonsenseEmpty = 66,
  kNonsenseHuge = 67,        // the length it tells is beyond the buffer
  kNonsenseUnavailable = 68  // the length it tells is CK_UNAVAILABLE_INFORMATION
};

// nonsense_script: the n-th call from now on deviates by the n-th byte; after the last byte every call fails.
// Null ends it.
void nonsense_script(const std::uint8_t* bytes, std::size_t size);

// nonsense_rule: every call of this function ("C_Sign") deviates so; 0 ends it. "CKA_ALWAYS_AUTHENTICATE"
// makes the key such a key.
void nonsense_rule(const char* function, std::uint8_t deviation);

// nonsense_calls: how often the function was called since the rules were last cleared; clears all rules and
// counts.
unsigned nonsense_calls(const char* function);
void nonsense_clear();
}
