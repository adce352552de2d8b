//! Just enough SVG: lines, rectangles, text, and axes that are linear or logarithmic.

use std::fmt::Write;

/// Colours that are told apart on white, also by most who do not see all colours alike.
pub(super) const COLOURS: [&str; 8] =
    ["#0072b2", "#56b4e9", "#d55e00", "#009e73", "#66a61e", "#cc79a7", "#e69f00", "#555555"];

/// Width and height of every plot.
pub(super) const SIZE: (f64, f64) = (860.0, 480.0);
const LEFT: f64 = 80.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 70.0;

/// From values to places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Axis {
    /// From zero to a little above the largest value.
    pub(super) fn linear(values: impl Iterator<Item = f64>) -> Self {
        let high = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        Self { low: 0.0, high: if high > 0.0 { high * 1.08 } else { 1.0 }, logarithmic: false }
    }

    /// Whole decades around the values that are above zero.
    pub(super) fn decades(values: impl Iterator<Item = f64>) -> Self {
        let positive = values.filter(|value| value.is_finite() && *value > 0.0);
        let (low, high) =
            positive.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return Self { low: 1.0, high: 10.0, logarithmic: true };
        }
        let low = 10f64.powf(low.log10().floor());
        let high = 10f64.powf(high.log10().ceil());
        Self { low, high: if high > low { high } else { low * 10.0 }, logarithmic: true }
    }

    /// Where a value lies, from 0 to 1; what cannot be shown lies at the edge.
    fn at(self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }

    fn ticks(self) -> Vec<f64> {
        if self.logarithmic {
            let decades = (self.high / self.low).log10().round() as i32;
            return (0..=decades).map(|decade| self.low * 10f64.powi(decade)).collect();
        }
        let rough = (self.high - self.low) / 5.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let count = ((self.high - self.low) / step).floor() as usize;
        (0..=count).map(|tick| self.low + step * tick as f64).collect()
    }
}

/// A drawing with a title and axes.
#[derive(Debug)]
pub(super) struct Drawing {
    svg: String,
    entries: usize,
    y: Axis,
}

impl Drawing {
    pub(super) fn new(title: &str, what: &str, y: Axis) -> Self {
        let (width, height) = SIZE;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
        );
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"24\" font-size=\"16\">{}</text>\n<text x=\"{LEFT}\" y=\"40\" fill=\"#555\">{}</text>",
            escaped(title),
            escaped(what)
        );
        let mut drawing = Self { svg, entries: 0, y };
        for tick in y.ticks() {
            let place = drawing.y(tick);
            drawing.line((LEFT, place), (width - RIGHT, place), "#dddddd", 1.0);
            drawing.text((LEFT - 8.0, place + 4.0), "end", &short(tick));
        }
        drawing
    }

    /// Names along the bottom, evenly.
    pub(super) fn names(&mut self, names: &[String]) {
        for (place, name) in names.iter().enumerate() {
            let x = self.slot(place, names.len(), 0.5);
            let y = SIZE.1 - BOTTOM + if place.is_multiple_of(2) { 18.0 } else { 34.0 };
            self.text((x, y), "middle", name);
        }
    }

    /// A bar in one of `of` places, `share` of it from its left, with whiskers from least to most.
    pub(super) fn bar(
        &mut self,
        (place, of): (usize, usize),
        (part, parts): (usize, usize),
        colour: &str,
        values: [f64; 3],
    ) {
        let [median, min, max] = values;
        let at = |share: f64| 0.15 + 0.7 * (part as f64 + share) / parts as f64;
        let (left, right) = (self.slot(place, of, at(0.08)), self.slot(place, of, at(0.92)));
        let (top, bottom) = (self.y(median), SIZE.1 - BOTTOM);
        let _ = writeln!(
            self.svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
            right - left,
            bottom - top
        );
        let middle = f64::midpoint(left, right);
        let (low, high) = (self.y(min), self.y(max));
        self.line((middle, low), (middle, high), "#222222", 1.2);
        self.line((middle - 4.0, low), (middle + 4.0, low), "#222222", 1.2);
        self.line((middle - 4.0, high), (middle + 4.0, high), "#222222", 1.2);
    }

    /// Ticks of a horizontal axis, with what stands at them.
    pub(super) fn across(&mut self, x: Axis, ticks: &[(f64, String)], what: &str) {
        for (value, name) in ticks {
            let place = Self::x(x, *value);
            self.line((place, TOP), (place, SIZE.1 - BOTTOM), "#eeeeee", 1.0);
            self.text((place, SIZE.1 - BOTTOM + 18.0), "middle", name);
        }
        self.text((f64::midpoint(LEFT, SIZE.0 - RIGHT), SIZE.1 - 20.0), "middle", what);
    }

    /// A line through points, with dots.
    pub(super) fn curve(&mut self, x: Axis, points: &[(f64, f64)], colour: &str) {
        let places: Vec<(f64, f64)> = points.iter().map(|(a, b)| (Self::x(x, *a), self.y(*b))).collect();
        let list: Vec<String> = places.iter().map(|(a, b)| format!("{a:.1},{b:.1}")).collect();
        let _ = writeln!(
            self.svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            list.join(" ")
        );
        for (a, b) in places {
            let _ = writeln!(self.svg, "<circle cx=\"{a:.1}\" cy=\"{b:.1}\" r=\"2.6\" fill=\"{colour}\"/>");
        }
    }

    /// A line of the legend.
    pub(super) fn legend(&mut self, colour: &str, name: &str) {
        let (x, y) = (SIZE.0 - RIGHT + 16.0, TOP + 10.0 + 20.0 * self.entries as f64);
        let _ =
            writeln!(self.svg, "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
        self.text((x + 18.0, y + 10.0), "start", name);
        self.entries += 1;
    }

    pub(super) fn finish(mut self) -> String {
        let bottom = SIZE.1 - BOTTOM;
        self.line((LEFT, bottom), (SIZE.0 - RIGHT, bottom), "#222222", 1.0);
        self.svg.push_str("</svg>\n");
        self.svg
    }

    fn y(&self, value: f64) -> f64 {
        let bottom = SIZE.1 - BOTTOM;
        bottom - self.y.at(value) * (bottom - TOP)
    }

    fn x(axis: Axis, value: f64) -> f64 {
        LEFT + axis.at(value) * (SIZE.0 - RIGHT - LEFT)
    }

    fn slot(&self, place: usize, of: usize, share: f64) -> f64 {
        LEFT + (place as f64 + share) / of.max(1) as f64 * (SIZE.0 - RIGHT - LEFT)
    }

    fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str, width: f64) {
        let _ = writeln!(
            self.svg,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        );
    }

    fn text(&mut self, (x, y): (f64, f64), anchor: &str, text: &str) {
        let text = escaped(text);
        let _ = writeln!(self.svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// 1.2k, 35M.
pub(super) fn short(value: f64) -> String {
    let trimmed = |value: f64| {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match value.abs() {
        1e6.. => format!("{}M", trimmed(value / 1e6)),
        1e3.. => format!("{}k", trimmed(value / 1e3)),
        _ => trimmed(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        assert_eq!(Axis::decades([3.0, 700.0].into_iter()).ticks(), [1.0, 10.0, 100.0, 1000.0]);
        let axis = Axis::linear([0.0, 430.0].into_iter());
        assert_eq!(axis.ticks(), [0.0, 100.0, 200.0, 300.0, 400.0]);
        assert!((axis.at(232.2) - 0.5).abs() < 1e-9);
        assert_eq!(Axis::decades(std::iter::empty()).ticks(), [1.0, 10.0]);
        assert_eq!([0.05, 12.0, 1500.0, 2e6].map(short), ["0.05", "12", "1.5k", "2M"]);
    }

    #[test]
    fn what_is_drawn_is_well_formed() {
        let mut drawing = Drawing::new("a < b", "per second", Axis::linear([5.0].into_iter()));
        drawing.names(&["x".to_owned()]);
        drawing.bar((0, 1), (0, 1), COLOURS[0], [5.0, 4.0, 5.0]);
        drawing.legend(COLOURS[0], "this & that");
        let svg = drawing.finish();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt; b") && svg.contains("this &amp; that"));
    }
}
