//! The memory functions that compiled code calls: a tenth of the compiler's own, and slower where
//! they are not aligned.

use core::arch::global_asm;

// `memcpy` is `memmove`; `__aeabi_memset` has its length before its value. Words where everything is
// aligned, bytes else. Thumb for both boards.
global_asm!(
    r#"
    .syntax unified
    .section .text.memory, "ax"
    .thumb
    .irp name, memcpy, memmove, __aeabi_memcpy, __aeabi_memcpy4, __aeabi_memcpy8, __aeabi_memmove, __aeabi_memmove4, __aeabi_memmove8
    .global \name
    .type \name, %function
    .thumb_func
\name:
    .endr
    mov r12, r0
    subs r3, r0, r1
    cmp r3, r2
    blo 4f                   // The beginning of the target is inside the source: from the end.
    orrs r3, r1
    lsls r3, r3, #30
    bne 2f
1:  subs r2, #4
    ittt hs
    ldrhs r3, [r1], #4
    strhs r3, [r12], #4
    bhs 1b
    adds r2, #4
2:  subs r2, #1
    ittt hs
    ldrbhs r3, [r1], #1
    strbhs r3, [r12], #1
    bhs 2b
3:  bx lr
4:  subs r2, #1
    blo 3b
    ldrb r3, [r1, r2]
    strb r3, [r12, r2]
    b 4b

    .global memset
    .type memset, %function
    .thumb_func
memset:
    mov r3, r1
    mov r1, r2
    mov r2, r3
    b 5f
    .irp name, __aeabi_memclr, __aeabi_memclr4, __aeabi_memclr8
    .global \name
    .type \name, %function
    .thumb_func
\name:
    .endr
    movs r2, #0
    .irp name, __aeabi_memset, __aeabi_memset4, __aeabi_memset8
    .global \name
    .type \name, %function
    .thumb_func
\name:
    .endr
5:  mov r12, r0
6:  subs r1, #1
    itt hs
    strbhs r2, [r12], #1
    bhs 6b
    bx lr
    "#
);
