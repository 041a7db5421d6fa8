#include <dlfcn.h>
#include <openssl/evp.h>

#include <memory>
#include <thread>

#include "attestation/base/bytes.h"
#include "attestation/base/error.h"
#include "attestation/crypto/openssl_ptr.h"
#include "tests/bench/floor.h"

namespace {

std::vector<std::function<bool()>>* listening = nullptr;  // of the one thread that verifies

using PkeyVerify = int(EVP_PKEY_CTX*, const unsigned char*, std::size_t, const unsigned char*, std::size_t);
using DigestVerify = int(EVP_MD_CTX*, const unsigned char*, std::size_t, const unsigned char*, std::size_t);

template <class Function>
Function* of_libcrypto(const char* name) {
  void* const found = dlsym(RTLD_NEXT, name);
  SP_ASSERT(found != nullptr);
  return reinterpret_cast<Function*>(found);
}

std::shared_ptr<EVP_PKEY> share(EVP_PKEY* key) {
  SP_ASSERT(key != nullptr && EVP_PKEY_up_ref(key) == 1);
  return {key, EVP_PKEY_free};
}

}  // namespace

extern "C" int EVP_PKEY_verify(EVP_PKEY_CTX* ctx, const unsigned char* sig, std::size_t siglen,
                               const unsigned char* tbs, std::size_t tbslen) {
  static PkeyVerify* const real = of_libcrypto<PkeyVerify>("EVP_PKEY_verify");
  if (listening != nullptr)
    listening->push_back([key = share(EVP_PKEY_CTX_get0_pkey(ctx)),
                          signature = sallyport::Bytes(sig, sig + siglen),
                          message = sallyport::Bytes(tbs, tbs + tbslen)] {
      const sallyport::crypto::PkeyCtxPtr again{EVP_PKEY_CTX_new(key.get(), nullptr)};
      return EVP_PKEY_verify_init(again.get()) == 1 &&
             real(again.get(), signature.data(), signature.size(), message.data(), message.size()) == 1;
    });
  return real(ctx, sig, siglen, tbs, tbslen);
}

extern "C" int EVP_DigestVerify(EVP_MD_CTX* ctx, const unsigned char* sig, std::size_t siglen,
                                const unsigned char* tbs, std::size_t tbslen) {
  static DigestVerify* const real = of_libcrypto<DigestVerify>("EVP_DigestVerify");
  if (listening != nullptr)
    // Ed25519 has no digest; a certificate's signature has one.
    listening->push_back([key = share(EVP_PKEY_CTX_get0_pkey(EVP_MD_CTX_get_pkey_ctx(ctx))),
                          digest = EVP_MD_CTX_get0_md(ctx), signature = sallyport::Bytes(sig, sig + siglen),
                          message = sallyport::Bytes(tbs, tbs + tbslen)] {
      const sallyport::crypto::MdCtxPtr again{EVP_MD_CTX_new()};
      return EVP_DigestVerifyInit(again.get(), nullptr, digest, nullptr, key.get()) == 1 &&
             real(again.get(), signature.data(), signature.size(), message.data(), message.size()) == 1;
    });
  return real(ctx, sig, siglen, tbs, tbslen);
}

namespace sallyport::bench {

VerificationsOf::VerificationsOf(const std::function<void()>& work) {
  std::vector<std::function<bool()>> noted;
  listening = &noted;
  work();
  listening = nullptr;
  SP_ASSERT(!noted.empty());
  replays_ = std::move(noted);
}

void VerificationsOf::replay() const {
  for (const auto& verification : replays_) SP_ASSERT(verification());
}

void VerificationsOf::replay(unsigned threads) const {
  std::vector<std::thread> all;
  for (unsigned first = 0; first < threads; ++first)
    all.emplace_back([this, first, threads] {
      for (std::size_t i = first; i < replays_.size(); i += threads) SP_ASSERT(replays_[i]());
    });
  for (std::thread& one : all) one.join();
}

}  // namespace sallyport::bench
