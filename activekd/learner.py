"""Active learning without an oracle: ask for rows to label, teach their labels, predict, keep the state in a file."""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float32, Int64

from activekd.arguments import FeatureTeacher, chosen_setup, whole
from activekd.asking import ask
from activekd.bank.views import Views
from activekd.datasets import Labeled
from activekd.datasets.arrays import Door
from activekd.defaults import SINGLE, VIEWS
from activekd.devices import check_device
from activekd.errors import Faults, InputError, unknown
from activekd.fitted import Fitted
from activekd.fitting import Fitter, Wanted
from activekd.given import GIVEN, IN_MEMORY
from activekd.pool import Pool
from activekd.predictor import Predictor, Saved
from activekd.recipes import Distillation, Recipe
from activekd.rounds import StudentViews, TeacherViews
from activekd.selectors import SELECTORS, Selector
from activekd.starts import BALANCED, RANDOM, STARTS, Start, check_start
from activekd.starts.checks import start_faults
from activekd.starts.rows import unlabeled_rows
from activekd.students.networks import ADAPTER
from activekd.teachers.text_heads import text_head

if TYPE_CHECKING:
    from activekd.datasets.arrays import Rows

OF_LEARNER = tuple(name for name in STARTS if name != BALANCED)
"""Initial strategies that read no label."""

ROWS, LABELS = "labeled.rows", "labeled.labels"
"""Names of the tensors with the labels in a file."""


class Learner:
    """Active learning on features whose labels a person gives: ``query``, ``teach``, ``predict``, and again.

    A round is that of ``activekd.run``: the teacher and the student are fitted to all labels so far, the student from
    new weights, and the selector picks rows from what they predict. A fit is made when it is first needed after
    ``teach``. With the labels, queries and seed of a run a learner has its numbers, on the same kind of device.

    While no label is known, ``start`` chooses the rows: ``random`` draws them uniformly, which is the common start of
    active learning. The default of a run, whose oracle knows the classes, is equally many labels of each; here a class
    may have no label for a while. For a start of your own, teach rows before the first query.

    Args:
        X: features of the rows of the pool, (rows, width).
        class_names: one name per class, in label order.
        teacher: of features, as ``zeroshot(features, text)`` or ``clap(features, text)``; None trains without
            distillation.
        selector: name of a query strategy, a function ``(view, query_size, *, rng) -> rows``, or a ``Selector``.
        student: ``adapter:given`` or ``frozen:given``.
        start: of the first query: ``random``; ``typiclust``, typical rows by X; or ``teacher``, the rows of each
            predicted class of which the zero-shot teacher is most sure.
        seed: names every random stream.
        distillation: rows that the student distils on: ``labeled``, ``unlabeled`` or, by default, ``both``.
        recipe: hyperparameters of every fit: a ``Recipe``, or the name of a built-in one, by default the student's.
        device: ``cpu``, ``cuda`` or ``mps``.

    Raises:
        InputError: arrays, names or numbers are wrong; all faults at once.

    >>> import numpy as np
    >>> import activekd as ak
    >>> truth = np.arange(60) % 2
    >>> X = np.eye(2)[truth] + 0.1 * np.random.default_rng(0).normal(size=(60, 2))
    >>> learner = ak.Learner(X, ["ant", "bee"], selector="margin")
    >>> rows = learner.query(6)
    >>> learner.teach(rows, truth[rows])
    >>> rows = learner.query(4)
    >>> learner.teach(rows, [["ant", "bee"][label] for label in truth[rows]])
    >>> int((learner.labels >= 0).sum())
    10
    >>> learner.predict([[1, 0], [0, 1]]).tolist()
    [0, 1]
    """

    def __init__(
        self,
        X: "Rows",
        class_names: Sequence[str],
        *,
        teacher: FeatureTeacher | None = None,
        selector: str | Selector | Callable[..., Any] = "pcoreset",
        student: str = f"{ADAPTER}{GIVEN}",
        start: str = RANDOM,
        seed: int = 0,
        distillation: Distillation | None = None,
        recipe: str | Recipe | None = None,
        device: str = "cpu",
    ) -> None:
        faults, door, views = Faults(), Door("Learner"), VIEWS[SINGLE]
        seeds = faults.resolve(["seed"], lambda key: whole(key, seed, 0))
        faults.resolve([device], check_device)
        setup = chosen_setup(
            faults,
            IN_MEMORY,
            student=student,
            chosen=teacher,
            selector=selector,
            recipe=recipe,
            distillation=distillation,
            views=views,
        )
        if setup is not None and setup.selector.is_oracle:
            expected = "expected: a strategy that reads none"
            faults.add(
                InputError(f"selector '{setup.selector.name}' is an oracle, which reads true labels; {expected}")
            )
        starts = faults.resolve(["start"], lambda _: Start(check_start(start, OF_LEARNER)), shown=lambda _: "")
        if setup is not None and starts:
            for fault in start_faults(starts["start"], setup.student, setup.teacher):
                faults.add(InputError(fault))
        features, names = door.features("X", X), door.class_names(class_names)
        if class_names is None:
            door.add("no class_names", "one name per class")
        arrays = teacher.arrays if isinstance(teacher, FeatureTeacher) else {}
        rows = ("X", None if features is None else len(features))
        taught = door.directions("teacher_features", arrays.get("teacher_features"), rows=rows)
        width = ("teacher_features", None if taught is None else taught.shape[1])
        embeddings = door.embeddings(arrays.get("text"), arrays.get("logit_scale"), names, width=width)
        if door.faults:
            faults.add(InputError(*door.faults))
        faults.refuse()
        assert setup is not None
        assert features is not None
        assert names is not None
        teaching = None
        if setup.teacher is not None:
            assert taught is not None
            assert embeddings is not None
            head = text_head(embeddings.text, embeddings.logit_scale)
            teaching = TeacherViews(setup.teacher.name, setup.teacher.adapt, head, Views((taught,), device), None)
        self.class_names = names
        self._X, self._seed, self._selector = features, seeds["seed"], setup.selector
        self._start = start
        inputs = Views((features,), device)
        student_views = StudentViews(setup.student, inputs, inputs)
        self._fitter = Fitter(
            len(names), student_views, teaching, setup.recipe, views, views, setup.distillation, device, None
        )
        self._pool, self._labels = Pool(len(features)), np.zeros(0, dtype=np.int64)
        self._round, self._asked = 0, False
        self._fit: tuple[Wanted, Fitted] | None = None
        self._predictor: Predictor | None = None

    @property
    def labels(self) -> Int64[np.ndarray, " rows"]:
        """The label of each row of X; -1 where it is not known."""
        return self._labeled.spread(self._pool.n)

    @property
    def _labeled(self) -> Labeled:
        return Labeled(np.asarray(self._pool.labeled, dtype=np.int64), self._labels)

    def query(self, n: int) -> Int64[np.ndarray, " n"]:
        """Rows to label next, in order of preference; the same rows again until something is taught.

        Args:
            n: number of rows.

        Raises:
            InputError: ``n`` is not from 1 to the number of unlabeled rows, a fit is not finite, or the selector broke
                its contract.
        """
        n, unlabeled = whole("n", n, 1), self._pool.unlabeled
        if n > len(unlabeled):
            raise InputError(
                f"a query of {n} rows from {len(unlabeled)} unlabeled ones; expected: at most {len(unlabeled)}"
            )
        if not self._pool.labeled:
            fits = self._fitter
            rows = unlabeled_rows(self._start, n, self._seed, fits.student, fits.teacher, fits.device)
            return np.array(rows, dtype=np.int64)
        want, fitted = self._fitted()
        pool = Pool(self._pool.n, self._pool.labeled)
        rows = ask(self._selector, want, fitted, pool, len(self.class_names), n, copied=True)
        self._asked = True
        return np.asarray(rows, dtype=np.int64)

    def teach(self, rows: "Rows", labels: "Rows") -> None:
        """Take the labels of rows, whether they were asked for or not.

        Args:
            rows: row numbers of X, each without a label so far.
            labels: the class of each, as a number or as a name.

        Raises:
            InputError: rows outside of X, twice or with a label, other counts, or labels outside of the classes; all
                faults at once, and nothing is taught.
        """
        door = Door("teach")
        new = door.labels("rows", rows)
        given = door.labels("labels", self._numbers(door, labels), rows=("rows", None if new is None else len(new)))
        if new is not None:
            distinct, counts = np.unique(new, return_counts=True)
            for what, odd in (
                (f"outside of the {self._pool.n} rows of X", new[new >= self._pool.n]),
                ("more than once", distinct[counts > 1]),
                ("that have a label", new[np.isin(new, self._pool.labeled)]),
            ):
                if len(odd):
                    door.add(f"rows {', '.join(map(str, odd[:5]))} {what}", "distinct rows of X without a label")
        if labels is None:
            door.add("no labels", "one class per row")
        if given is not None:
            door.are_classes("labels", given, self.class_names)
        door.refuse()
        assert new is not None
        assert given is not None
        if not len(new):
            return
        self._pool = self._pool.buy(new.tolist())
        self._labels = np.concatenate([self._labels, given])
        self._round, self._asked = self._round + self._asked, False
        self._fit = self._predictor = None

    def predict_proba(self, X: "Rows") -> Float32[np.ndarray, "n classes"]:
        """Class probabilities of rows of features, after a fit to all labels so far.

        Args:
            X: (n, width).

        Raises:
            InputError: no label is known, the rows have another width or values that are not finite, or the fit is not
                finite.
        """
        return self.predictor.predict_proba(X)

    def predict(self, X: "Rows") -> Int64[np.ndarray, " n"]:
        """The class of each row of features, as a number; ``class_names`` has its name. Errors as ``predict_proba``."""
        return self.predictor.predict(X)

    @property
    def predictor(self) -> Predictor:
        """The student that is fitted to all labels so far, apart from the pool.

        Raises:
            InputError: no label is known, or the fit is not finite.
        """
        if self._predictor is None:
            _, fitted = self._fitted()
            fits = self._fitter
            name, width = fits.student.network.name, self._X.shape[1]
            self._predictor = Predictor(
                self.class_names, name, width, fits.recipe, fits.distillation, fitted.network, fits.device
            )
        return self._predictor

    def save(self, file: str | Path) -> None:
        """Write the fitted student, the labels and the place in the rounds to a safetensors file; X is not in it.

        ``Predictor.load`` reads the student alone, ``Learner.load`` goes on with the labels.

        Raises:
            InputError: no label is known, the fit is not finite, or the file cannot be written.
        """
        labeled = self._labeled
        self.predictor.save(
            file,
            {ROWS: torch.from_numpy(labeled.rows), LABELS: torch.from_numpy(labeled.labels)},
            {
                "seed": self._seed,
                "round": self._round,
                "asked": self._asked,
                "selector": self._selector.name,
                "X": _fingerprint(self._X),
            },
        )

    @classmethod
    def load(
        cls,
        file: str | Path,
        X: "Rows",
        *,
        teacher: FeatureTeacher | None = None,
        selector: str | Selector | Callable[..., Any] | None = None,
        device: str = "cpu",
    ) -> "Learner":
        """The learner in a file of ``save``, which goes on as if it had not stopped.

        Args:
            file: of ``save``.
            X: the rows of the pool, as before.
            teacher: as before; it is not in the file.
            selector: None for the one before, where it has a name.
            device: ``cpu``, ``cuda`` or ``mps``.

        Raises:
            InputError: the file cannot be read or is another one, X differs, a teacher is missing or new, or the
                selector before was a function and none is given.
        """
        saved = Saved.read(file)
        of, taught = saved.metadata, saved.metadata["distillation"] != "none"
        door = Door(str(saved.file))
        if "round" not in of:
            door.add("a predictor alone", "a file of Learner.save")
        if taught != (teacher is not None):
            door.add(f"saved with{'out' * (not taught)} a teacher", f"teacher={'the same' if taught else None}")
        if selector is None and of.get("selector") not in SELECTORS:
            door.add(f"saved with the selector '{of.get('selector')}', which is not in the library", "selector=...")
        door.refuse()
        learner = cls(
            X,
            of["class_names"],
            teacher=teacher,
            selector=of["selector"] if selector is None else selector,
            student=of["student"],
            seed=of["seed"],
            distillation=of["distillation"],
            recipe=saved.recipe,
            device=device,
        )
        if _fingerprint(learner._X) != of["X"]:
            raise InputError(f"{saved.file}: saved with another X; expected: the same rows in the same order")
        learner._pool = learner._pool.buy(saved.tensors[ROWS].tolist())
        learner._labels = saved.tensors[LABELS].numpy()
        learner._round, learner._asked = of["round"], of["asked"]
        learner._predictor = saved.predictor(device)
        return learner

    def _fitted(self) -> tuple[Wanted, Fitted]:
        """The fit to all labels so far."""
        if not self._pool.labeled:
            raise InputError("no label is known; expected: teach(rows, labels) first")
        if self._fit is None:
            want = Wanted(self._round, self._seed, self._pool, self._labeled, "features" in self._selector.needs)
            (fitted,) = self._fitter.fit([want], self._fitter.together(want))
            if isinstance(fitted, InputError):
                raise fitted
            self._fit = want, fitted
        return self._fit

    def _numbers(self, door: Door, labels: Any) -> Any:
        """Labels as numbers, where they are names of classes; None where one is of no class."""
        array = door.array("labels", labels)
        if array is None or array.dtype.kind != "U":
            return array
        number = {name: label for label, name in enumerate(self.class_names)}
        odd = [name for name in array.ravel().tolist() if name not in number]
        if odd:
            door.faults.append(f"{door.where}: {unknown('class', odd[0], self.class_names)}")
            return None
        return np.array([number[name] for name in array.ravel().tolist()], dtype=np.int64).reshape(array.shape)


def _fingerprint(X: np.ndarray) -> str:
    return sha256(repr(X.shape).encode() + X.tobytes()).hexdigest()
