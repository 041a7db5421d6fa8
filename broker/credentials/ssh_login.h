#pragma once

#include "attestation/record/dossier.h"

namespace sallyport::credentials {

// SshLogin is the content of one SSH login as the session key signs it: method
// publickey-hostbound-v00@openssh.com, which names the host key (RFC 4252 §7; OpenSSH PROTOCOL §1.10), with a
// P-256 certificate.
struct SshLogin {
  Bytes session_id;
  std::string user;
  Bytes certificate;  // wire form
  Bytes host_key;     // wire form
};
Result<SshLogin> parse_ssh_login(ByteView content);

// verify_ssh_login checks that a login's content is one that `grant` allows.
//   Proves:         user is the grant's account; the certificate is exactly `certificate`; the host key is
//   one of the grant's host. Does not prove: that the grant still runs, or that the host is where it should
//   be. Errors:         kLeaseContent (form or certificate), kLeaseUser, kLeaseHost.
Status verify_ssh_login(const SshLogin& login, const record::VerifiedGrant& grant, ByteView certificate);

}  // namespace sallyport::credentials
