#pragma once

// The names of PKCS #11, for this room only: no header of the room's public face includes it.
#include <p11-kit/p11-kit.h>
#include <p11-kit/pkcs11.h>
