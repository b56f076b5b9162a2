//! Locks and channels with the faces of `parking_lot` and `crossbeam_channel`, upon those of `shuttle`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, PoisonError};

use shuttle::sync;

use crate::clock::Instant;

#[derive(Default)]
pub struct Mutex<T>(sync::Mutex<T>);

/// Empty only while its thread waits for a [`Condvar`].
pub struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex(sync::Mutex::new(value))
    }

    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("not waiting")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("not waiting")
    }
}

#[derive(Debug, Default)]
pub struct Condvar(sync::Condvar);

/// That a wait was in vain, which it never is.
pub struct Notified;

impl Condvar {
    pub fn new() -> Condvar {
        Condvar::default()
    }

    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let locked = guard.0.take().expect("not waiting");
        guard.0 = Some(self.0.wait(locked).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until it is told, however long that takes: whoever is forgotten waits for ever, and that is found.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, _until: Instant) -> Notified {
        self.wait(guard);
        Notified
    }

    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl Notified {
    pub fn timed_out(&self) -> bool {
        false
    }
}

std::thread_local! {
    /// How many messages a channel of this schedule has held at a time.
    pub(crate) static LONGEST_QUEUE: Cell<usize> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Queue<T> {
    messages: VecDeque<T>,
    has_receiver: bool,
}

#[derive(Debug)]
pub struct Sender<T>(Arc<Mutex<Queue<T>>>);

#[derive(Debug)]
pub struct Receiver<T>(Arc<Mutex<Queue<T>>>);

pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Mutex::new(Queue { messages: VecDeque::new(), has_receiver: true }));
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

impl<T> Sender<T> {
    /// Gives the message back when nobody is left to receive it.
    pub fn send(&self, message: T) -> Result<(), T> {
        let mut queue = self.0.lock();
        if !queue.has_receiver {
            return Err(message);
        }
        queue.messages.push_back(message);
        LONGEST_QUEUE.set(LONGEST_QUEUE.get().max(queue.messages.len()));
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.0.lock().messages.len()
    }
}

impl<T> Receiver<T> {
    pub fn try_recv(&self) -> Result<T, &'static str> {
        self.0.lock().messages.pop_front().ok_or("empty")
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().messages.is_empty()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.has_receiver = false;
        queue.messages.clear();
    }
}
