# SPDX-License-Identifier: Apache-2.0
"""The nineteen faults, as changes that bring each of them back; tests/alloc/README.md says in words what each changes."""

import typing


class Variant(typing.NamedTuple):
    # As a GTest path; its program is that of its first part, but for what PROGRAMS says.
    test: str
    # Below alloc/.
    file: str
    # Comes once in the file, and is replaced.
    right: str
    wrong: str


PROGRAMS = {
    '/allocate-service/B1-every-end-opens-the-latch': 'allocate-service-faults',
    '/allocate-service/B2-the-threads-survive-any-error': 'allocate-service-faults',
    '/allocate-service/B3-an-error-belongs-to-its-request': 'allocate-service-faults',
    '/allocate-service/B5-a-slow-preparation-fails-no-create': 'allocate-service-ends',
    '/allocate-service/B14-an-unclaimed-segment-serves-another-path': 'allocate-service-ends',
}

VARIANTS = [
    Variant('/allocate-service/B1-every-end-opens-the-latch', 'end-list.c',
            '\t\tlatch_open(&request->latch);\n',
            '\t\tif (request->state != ALLOCATE_FAILED)\n\t\t\tlatch_open(&request->latch);\n'),

    Variant('/allocate-service/B2-the-threads-survive-any-error', 'allocate-service.c',
            '\tint r = prepare_for(service, work, &segment);\n',
            '\tint r = prepare_for(service, work, &segment);\n\n'
            '\tif (r < 0 && !alloc_error_is_passing(r))\n\t\tpthread_exit(NULL);\n'),
    Variant('/warmer/B2-a-missing-page-is-an-error', 'warmer.c',
            'r = sys->madvise(sys, (char *)map + offset, chunk, MADV_POPULATE_READ);',
            'r = *((volatile char *)map + offset) * 0;'),

    Variant('/allocate-service/B3-an-error-belongs-to-its-request', 'allocate-scheduler.c',
            '\tallocate_waiting_end(scheduler, request, ALLOCATE_FAILED, error);\n',
            '\tfor (size_t i = 0; i < scheduler->n_classes; i++)\n'
            '\t\twhile ((request = wait_list_first(&scheduler->classes[i].waiting)))\n'
            '\t\t\tallocate_waiting_end(scheduler, request, ALLOCATE_FAILED, error);\n'),

    Variant('/allocate-scheduler/B4-retries-are-few-and-far-between', 'allocate-scheduler.c',
            'alloc_error_is_passing(error) && request->attempts < MAX_ATTEMPTS', 'true'),
    Variant('/allocate-scheduler/B4-retries-are-few-and-far-between', 'allocate-scheduler.c',
            'alloc_error_is_passing(error) && request->attempts', 'request->attempts'),
    Variant('/allocate-scheduler/B4-retries-are-few-and-far-between', 'segment-pool.c',
            'now_ns + MIN(pause_ns, PAUSE_MAX_NS);', 'now_ns + MIN(pause_ns, 1000000);'),

    Variant('/allocate-service/B5-a-slow-preparation-fails-no-create', 'allocate-service.c',
            'r = provider->prepare_cold(provider, class, ret_segment);', 'r = -EAGAIN;'),

    Variant('/transient-pool/B6-a-buffer-is-lent-once', 'transient-pool.c',
            'of->free[--of->n_free]', 'of->free[of->n_free - 1]'),

    Variant('/live-buffer/B7-without-a-buffer-a-file-is-as-good', 'live-segment.c',
            '\tlive->length = length;\n', '\tif (live->buffer.memory)\n\t\tlive->length = length;\n'),

    Variant('/live-buffer/B8-the-buffer-of-an-uncommitted-file', 'live-buffer.c',
            '\telse\n\t\tlive_buffer_give_back_locked(live);\n',
            '\telse if (!is_dirty(buffer))\n\t\tlive_buffer_give_back_locked(live);\n'),
    Variant('/live-buffer/B8-the-buffer-of-an-uncommitted-file', 'live-buffer.c',
            'is_dirty(buffer) && live->named', 'false'),

    Variant('/segment-locks/B9-unlocked-again', 'segment-locks.c',
            'of->kept.length > n_to_keep(of->class)', 'false'),
    Variant('/segment-locks/B9-unlocked-again', 'segment-locks.c',
            '\tlocks->sys->munmap(locks->sys, kept->map, kept->bytes);\n', ''),

    Variant('/segment-locks/B10-a-failure-is-told', 'segment-locks.c',
            '\tbool first = !of->told;\n', '\tbool first = false;\n'),
    Variant('/segment-locks/B10-a-failure-is-told', 'segment-locks.c',
            '\tsegment->lock_error = error;\n', ''),

    Variant('/warmer/B11-the-page-size-is-asked', 'warmer.c',
            'class->flush_least_pages * sys->page_bytes(sys)', 'class->flush_least_pages * 4096'),

    Variant('/warmer/B12-each-page-is-flushed-once', 'warmer.c',
            'flush_behind(sys, fd, flushed, end,', 'flush_behind(sys, fd, 0, end,'),

    Variant('/file-provider/B13-populated-after-the-last-flush', 'file-provider.c',
            '\tr = warmer_fill(provider->sys, segment->fd, class, &stint);\n\tif (r == 0)\n'
            '\t\tr = map_and_populate(provider, segment, &stint);\n',
            '\tr = warmer_fill(provider->sys, segment->fd, class, &stint);\n\tif (r == 0)\n'
            '\t\tr = map_and_populate(provider, segment, &stint);\n\tif (r == 0)\n'
            '\t\tr = provider->sys->fsync(provider->sys, segment->fd);\n'),

    Variant('/allocate-service/B14-an-unclaimed-segment-serves-another-path', 'allocate-scheduler.c',
            '\tif (!state->pool.drained &&', '\tif (!(preferred && preferred->path) && !state->pool.drained &&'),

    Variant('/file-provider/B15-no-name-before-it-is-whole', 'file-provider.c',
            '\tint r = cut_to(provider, segment, segment->class->size_bytes);\n\n\tif (r == 0)\n'
            '\t\tr = set_attributes(sys, segment, target);\n\tif (r == 0)\n\t\tr = give_name(provider, segment, target);\n',
            '\tint r = give_name(provider, segment, target);\n\n\tif (r == 0)\n'
            '\t\tr = cut_to(provider, segment, segment->class->size_bytes);\n\tif (r == 0)\n'
            '\t\tr = set_attributes(sys, segment, target);\n'),
    Variant('/pool-dir/B15-half-made-files-stop-no-start', 'pool-dir.c',
            '\t\tif (!is_live(stock, name))\n\t\t\tremove_leftover(stock->dir, name, "half-made");\n', ''),

    Variant('/file-provider-adoption/B16-an-unclaimed-segment-has-no-final-name', 'file-provider.c',
            '\tr = sys->renameat2(sys, provider->dir->segments_fd, segment->name, provider->dir->segments_fd,\n'
            '\t\t\t   name, 0);\n',
            '\tg_autofree char *final_name = g_strconcat("../../", name, NULL);\n'
            '\tr = sys->renameat2(sys, provider->dir->segments_fd, segment->name, provider->dir->segments_fd,\n'
            '\t\t\t   final_name, 0);\n'),

    Variant('/allocate-request/B17-the-order-is-total', 'allocate-request.c',
            'order = compare_descending(b->serial, a->serial);', 'order = 0;'),

    Variant('/allocate-scheduler/B18-a-waiting-create-before-a-larger-one-ahead', 'allocate-scheduler.c',
            'next_urgent(scheduler, ret_work) ||', 'next_ahead(scheduler, ret_work) || next_urgent(scheduler, ret_work) ||'),
    Variant('/allocate-service/B18-a-waiting-create-before-a-larger-one-ahead', 'allocate-service.c',
            'MAX(service->n_workers, n_threads + 1)', 'MAX(service->n_workers, n_threads)'),

    Variant('/warm-pace/B19-preparing-ahead-gives-way', 'warm-pace.c',
            'if (stint->has_turn && atomic_load(&pace->yields))', 'if (false)'),
]


def program(test):
    return PROGRAMS.get(test, test.split('/')[1])
