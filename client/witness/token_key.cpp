#include "client/witness/token_key.h"

#include "hsm-config/pkcs11/probe.h"

namespace sallyport::witness {
namespace {

Result<pkcs11::Token> open_token(const TokenPlace& place) {
  const pkcs11::TokenSelector selector{{place.module, ""}, place.token, ""};
  SP_TRY(SecretBytes pin, pkcs11::read_pin(place.pin, "PIN for " + place.token + ": "));
  return pkcs11::Token::open(selector, std::move(pin));
}

// make_key asks for the key in either of the two ways in which modules want its curve named.
Result<pkcs11::KeyHandle> make_key(const pkcs11::Token& token, std::string_view label) {
  auto key = token.generate_key(label, {}, pkcs11::KeySpec::kEd25519Sign, pkcs11::Ed25519Params::kOid);
  if (key || key.error().code == Code::kConflict) return key;
  auto other =
      token.generate_key(label, {}, pkcs11::KeySpec::kEd25519Sign, pkcs11::Ed25519Params::kPrintableString);
  return other ? std::move(other) : std::move(key);
}

Status check_key(const pkcs11::KeyHandle& key) {
  const auto wrong = [&](const char* what) {
    return Error{Code::kUnavailable, Reason::kTokenKey, "key \"" + key.label() + "\" " + what,
                 Next::kCallOperator, 0};
  };
  if (key.public_key().algorithm() != crypto::KeyAlgorithm::kEd25519) return wrong("is not Ed25519");
  if (!key.may_sign() || key.may_derive()) return wrong("must be for signing only");
  if (!key.sensitive() || key.extractable()) return wrong("must be sensitive and not extractable");
  return Done{};
}

}  // namespace

Result<crypto::PublicKey> create_token_key(const TokenPlace& place, std::string_view label) {
  SP_TRY(const pkcs11::Token token, open_token(place));
  SP_TRY(const pkcs11::KeyHandle key, make_key(token, label));
  SP_CHECK(check_key(key));
  SP_CHECK(token.sign_ed25519(key, as_bytes("sallyport-witness: a first signature")));
  return key.public_key();
}

Result<Sign> open_token_key(const TokenPlace& place, const crypto::PublicKey& public_key) {
  SP_TRY(const pkcs11::Token token, open_token(place));
  SP_TRY(const pkcs11::KeyHandle key, token.find_key(public_key));
  SP_CHECK(check_key(key));
  SP_CHECK(pkcs11::probe_token(token, {&key, 1}));
  return Sign{[token, key](ByteView message) { return token.sign_ed25519(key, message); }};
}

}  // namespace sallyport::witness
