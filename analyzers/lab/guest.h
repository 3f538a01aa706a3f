/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the parameters stand in the lab's boot sector: shared by guest.S and whoever patches it.
 * Little-endian.
 */
#ifndef LAB_GUEST_H
#define LAB_GUEST_H

#define LAB_GUEST_SIZE	      512
#define LAB_GUEST_HAMMER      0x1ec /* u32: writes to where nothing is, each round */
#define LAB_GUEST_FILL_PAGES  0x1f0 /* u32: pages from 1 MiB up written once; >= 1 */
#define LAB_GUEST_DIRTY_PAGES 0x1f4 /* u32: of them, written each round; >= 1 */
#define LAB_GUEST_DIVISOR     0x1f8 /* u16: timer clocks (1193182 a second) between rounds; 0: none */

#ifndef __ASSEMBLER__
extern const unsigned char lab_guest_sector[LAB_GUEST_SIZE];
#endif

#endif
