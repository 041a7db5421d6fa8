#pragma once

#include "client/witness/witness.h"
#include "hsm-config/pkcs11/pin.h"
#include "hsm-config/pkcs11/token.h"

namespace sallyport::witness {

// TokenPlace is the token that holds a witness's key, and where its PIN comes from.
struct TokenPlace {
  std::string module;  // by absolute path
  std::string token;   // its label
  pkcs11::PinSource pin;
};

// create_token_key makes an Ed25519 key of this label on the token, which never leaves it.
//   Errors: kConflict (a key of this label is there: an old key is never taken for a new memory), kUsage (the
//   PIN), kToken….
Result<crypto::PublicKey> create_token_key(const TokenPlace& place, std::string_view label);

// open_token_key finds the key again, by its public key, and gives what signs with it. The token has refused
// to give out the key or to change it.
//   Errors: kTokenKey (not there, or may be taken out), kHsmProbe, kUsage (the PIN), kToken….
Result<Sign> open_token_key(const TokenPlace& place, const crypto::PublicKey& key);

}  // namespace sallyport::witness
